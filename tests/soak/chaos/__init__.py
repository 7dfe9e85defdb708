"""Real nodes, each in a network of its own, under faults; `python -m tests.soak.chaos --help`.

command    what the command of a campaign does around it
sandbox    namespaces for a whole run, which the kernel removes with its last process
network    what carries packets between the nodes, or loses, delays and drops them
process    one node's process, seen from outside
node       that of these runs, with a clock and a disk; member is the same seen from inside
workload   what a node does while it may write: a line in the journal all nodes share
orders     how the outside tells a node to misbehave at an exact point of its program
cluster    the nodes together: their agreement, and how they are healed
faults     every kind of harm
campaign   harm, heal, wait for agreement, again; the schedule comes from one seed
judge      reads the journal afterwards; knows nothing of how it came about
outages    how long nobody wrote
report     all of that as a table and as JSON
"""
