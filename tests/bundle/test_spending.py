from tests.wire.test_spending import *  # noqa: F403
