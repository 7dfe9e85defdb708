"""A counter that only the primary may increment, under faults.

See `python -m tests.soak.counter --help`.

counter    the file: two numbers, replaced as a whole, with or without a check of the epoch journal
a line for each step of each child, in a file that all share work       the command of
`--run-primary`: increments without asking a node member     a node of `--tac`: increments in its
own process, below PrimaryOnly cluster    three nodes of either kind, and the processes below them
faults     every kind of fault campaign   causes a fault, heals it, and waits until the counter
grows again judge      reads only journal and counter, after the run report     the results as a
table and as JSON

Namespaces, network, processes and agreement are those of tests.soak.chaos.
"""
