"""One node of a run; its settings are in the environment. See tests/chaos/member.py."""

from tests.chaos.member import make_application

application = make_application()
