from tests.cases.backup import *  # noqa: F403
