"""One member that writes down what it sees, see bench/node.py."""

from bench.node import make_application

application = make_application()
