from tests.cases.real_clients import *  # noqa: F403
