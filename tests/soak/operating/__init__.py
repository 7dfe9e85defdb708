"""docs/operating.md, tried as it is written; `python -m tests.soak.operating --help`.

page        the commands of the page, and what it says comes of them
hosts       machines to type them on: a network, a file system and a shell each
site        what stands around the cluster: the program to run, its store, the source code
trial       types one command after another, and keeps the transcript
"""
