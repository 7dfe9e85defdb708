"""`kevy-elect demo`: real nodes on this machine, whose primary is killed to show a failover."""
