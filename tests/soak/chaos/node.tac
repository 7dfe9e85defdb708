"""One node of a run; its settings are in the environment. See tests/soak/chaos/member.py."""

from tests.soak.chaos.member import make_application

application = make_application()
