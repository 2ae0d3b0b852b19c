from tests.cases.silence import *  # noqa: F403
