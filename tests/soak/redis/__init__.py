"""Three nodes, each with a Redis that it drives, clients that write to all of them, and faults.

See `python -m tests.soak.redis --help`.

sentinels  the same hosts with Redis Sentinel instead of our nodes cluster    the nodes, their
servers and the clients clients    write to one server whenever it takes writes, and ask for
confirmation faults     every kind of fault campaign   causes a fault, heals it, and waits until all
replicas confirm a write judge      reads the journals and the primary's data, after the run report
the results as a table and as JSON

Namespaces, network, processes and agreement are those of tests.soak.chaos.
"""
