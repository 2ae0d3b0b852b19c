from tests.cases.malformed import *  # noqa: F403
