# Redis, of CPAN.
use strict;
use warnings;
use Redis;
use Time::HiRes 'sleep';

$| = 1;
print "version $Redis::VERSION\n";
my $redis;
for (my $number = 1; ; $number++, sleep 0.005) {
    eval {
        $redis //= Redis->new(sentinels => [@ARGV], service => 'mymaster', reconnect => 1, every => 10_000);
        $redis->rpush('numbers', $number);
        print "written $number\n";
        1;
    } or do {
        my ($first) = split /\n/, $@;
        print "error $first\n";
        undef $redis;
    };
}
