from tests.cases.privacy import *  # noqa: F403
