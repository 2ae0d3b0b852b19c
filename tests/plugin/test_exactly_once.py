from tests.cases.exactly_once import *  # noqa: F403
