from tests.wire.test_tls import *  # noqa: F403
