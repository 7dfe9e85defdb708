"""One node of a run; its settings are in the environment. See tests/soak/hostile/member.py."""

from tests.soak.hostile.member import make_application

application = make_application()
