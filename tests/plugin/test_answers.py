from tests.cases.answers import *  # noqa: F403
