"""A campaign in which existing clients of Redis Sentinel follow a failover and a switchover.

`programs` has one small program for each client, in its own language and in the style of its users.
Its arguments are the addresses of three sentinels. Its first line is `version V`. Then it tries to
write a number every few milliseconds, and prints `written N` after success, else `error …`.
"""
