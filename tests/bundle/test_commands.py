from tests.wire.test_commands import *  # noqa: F403
