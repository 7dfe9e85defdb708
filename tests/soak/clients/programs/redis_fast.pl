# Redis::Fast, of CPAN.
use strict;
use warnings;
use Redis::Fast;
use Time::HiRes 'sleep';

$| = 1;
print "version $Redis::Fast::VERSION\n";
my $redis;
for (my $number = 1; ; $number++, sleep 0.005) {
    eval {
        $redis //= Redis::Fast->new(sentinels => [@ARGV], service => 'mymaster', reconnect => 1, every => 10_000);
        $redis->rpush('numbers', $number);
        print "written $number\n";
        1;
    } or do {
        my ($first) = split /\n/, $@;
        print "error $first\n";
        undef $redis;
    };
}
