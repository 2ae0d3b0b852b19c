from tests.cases.clocks import *  # noqa: F403
