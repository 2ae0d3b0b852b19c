from tests.cases.options import *  # noqa: F403
