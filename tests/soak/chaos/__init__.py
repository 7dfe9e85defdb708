"""Real nodes, each in a network of its own, under faults; `python -m tests.soak.chaos --help`.

command    the frame of a campaign's command sandbox    namespaces for a whole run, which the kernel
removes with its last process network    carries packets between the nodes, or loses, delays and
drops them process    one node's process, seen from outside node       the node of these runs, with
a clock and a disk; member is the same seen from inside workload   the writes of a node while it may
write: lines in a journal that all nodes share orders     make a node misbehave at an exact point of
its program cluster    the nodes together: their agreement, and how they are healed faults     every
kind of fault campaign   causes a fault, heals it, waits for agreement, and repeats; one seed
decides judge      reads only the journal, after the run outages    times without writes report
the results as a table and as JSON
"""
