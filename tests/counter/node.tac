"""One node of a run; its settings are in the environment. See tests/counter/member.py."""

from tests.counter.member import make_application

application = make_application()
