"""One node of a run; its settings are in the environment. See tests/soak/counter/member.py."""

from tests.soak.counter.member import make_application

application = make_application()
