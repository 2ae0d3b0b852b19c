from tests.cases.spending import *  # noqa: F403
