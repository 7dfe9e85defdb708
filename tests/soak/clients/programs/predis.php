<?php
// predis.
require 'Predis/autoload.php';

echo 'version ', Predis\Client::VERSION, "\n";
$sentinels = array_map(fn ($each) => "tcp://$each?timeout=1", array_slice($argv, 1));
$redis = new Predis\Client($sentinels, ['replication' => 'sentinel', 'service' => 'mymaster']);
for ($number = 1; ; $number++, usleep(5000)) {
    try {
        $redis->rpush('numbers', [$number]);
        echo "written $number\n";
    } catch (Predis\PredisException $error) {
        echo 'error ', strtok($error->getMessage(), "\n"), "\n";
        if ($error instanceof Predis\Response\ServerException) {
            $redis->disconnect();
        }
    }
}
