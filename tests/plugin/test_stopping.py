from tests.cases.stopping import *  # noqa: F403
