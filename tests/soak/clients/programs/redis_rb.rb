# redis-rb.
require "redis"

$stdout.sync = true
puts "version #{Redis::VERSION}"
sentinels = ARGV.map do |each|
  host, port = each.split(":")
  { host: host, port: port.to_i }
end
redis = Redis.new(url: "redis://mymaster", sentinels: sentinels, role: :master, timeout: 1)
(1..).each do |number|
  begin
    redis.rpush("numbers", number)
    puts "written #{number}"
  rescue Redis::BaseError => error
    puts "error #{error.class} #{error.message}"
  end
  sleep 0.005
end
