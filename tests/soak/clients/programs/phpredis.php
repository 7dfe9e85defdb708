<?php
// phpredis: RedisSentinel says where the primary is, Redis writes there.

function primary(array $sentinels): Redis
{
    foreach ($sentinels as $each) {
        [$host, $port] = explode(':', $each);
        try {
            $address = (new RedisSentinel($host, (int) $port, 1.0))->getMasterAddrByName('mymaster');
        } catch (RedisException $error) {
            continue;
        }
        if ($address) {
            $redis = new Redis();
            $redis->connect($address[0], (int) $address[1], 1.0);
            return $redis;
        }
    }
    throw new RedisException('no sentinel knows a primary');
}

error_reporting(E_ALL & ~E_WARNING);
if (!extension_loaded('redis')) {
    fwrite(STDERR, "Error: the extension redis is not installed\n");
    exit(1);
}
echo 'version ', phpversion('redis'), "\n";
$redis = null;
for ($number = 1; ; $number++, usleep(5000)) {
    try {
        $redis ??= primary(array_slice($argv, 1));
        if ($redis->rPush('numbers', $number) === false) {
            throw new RedisException($redis->getLastError());
        }
        echo "written $number\n";
    } catch (RedisException $error) {
        echo 'error ', $error->getMessage(), "\n";
        $redis = null;
    }
}
