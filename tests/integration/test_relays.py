from tests.cases.relays import *  # noqa: F403
