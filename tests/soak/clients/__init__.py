"""A campaign in which existing clients of Redis Sentinel follow a failover and a switchover.

`programs` has one small program for each client, in its own language, written as its users would.
It is given the addresses of three sentinels. It says `version V` on the first line, then tries a
number every few milliseconds: `written N` if that went well, else `error …`.
"""
