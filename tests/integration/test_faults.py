from tests.cases.faults import *  # noqa: F403
