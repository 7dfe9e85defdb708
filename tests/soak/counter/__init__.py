"""A counter that only the primary may increment, under faults.

See `python -m tests.soak.counter --help`.

counter    the file: two numbers, replaced as a whole, with or without a check of the epoch
journal    what each who increments tells of itself: one line a step, in a file all share
work       the command of `--run-primary`: increments without asking anybody
member     a node of `--tac`: increments in its own process, below PrimaryOnly
cluster    three nodes of either kind, and the processes below them
faults     every kind of harm
campaign   harm, heal, wait until the counter moves again
judge      reads journal and counter afterwards; knows nothing of how they came about
report     all of that as a table and as JSON

Namespaces, network, processes and agreement are those of tests.soak.chaos.
"""
