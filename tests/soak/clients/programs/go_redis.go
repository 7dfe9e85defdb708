// go-redis 5, of 2017: Debian has no other.
package main

import (
	"fmt"
	"os"
	"time"

	"gopkg.in/redis.v5"
)

func main() {
	fmt.Println("version 5")
	client := redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName:    "mymaster",
		SentinelAddrs: os.Args[1:],
	})
	for number := 1; ; number++ {
		if err := client.RPush("numbers", number).Err(); err != nil {
			fmt.Println("error", err)
		} else {
			fmt.Println("written", number)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
