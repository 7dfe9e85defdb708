"""A bare Twisted process, see bench/floor.py."""

from bench.floor import make_application

application = make_application()
