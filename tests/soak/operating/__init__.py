"""Runs docs/operating.md as it is written; `python -m tests.soak.operating --help`.

page        the commands of the page, and their output hosts       hosts for them: a network, a file
system and a shell each site        the surroundings of the cluster: the program to run, its store,
the source code trial       runs one command after another, and keeps the transcript
"""
