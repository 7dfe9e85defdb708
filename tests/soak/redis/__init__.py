"""Three nodes, each with a Redis that it drives, clients that write to all of them, and faults.

See `python -m tests.soak.redis --help`.

sentinels  the same hosts with Redis Sentinel instead of our nodes
cluster    the nodes, their servers and the clients
clients    what writes to one server whenever that takes it, and asks for confirmation
faults     every kind of harm
campaign   harm, heal, wait until a write is confirmed by all
judge      reads the journals and the primary's data afterwards
report     all of that as a table and as JSON

Namespaces, network, processes and agreement are those of tests.soak.chaos.
"""
