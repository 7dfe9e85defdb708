"""One copy of a web service with its election, see bench/web.py."""

from bench.web import make_application

application = make_application()
