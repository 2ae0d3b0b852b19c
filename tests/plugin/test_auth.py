from tests.cases.auth import *  # noqa: F403
