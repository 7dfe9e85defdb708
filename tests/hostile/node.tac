"""One node of a run; its settings are in the environment. See tests/hostile/member.py."""

from tests.hostile.member import make_application

application = make_application()
