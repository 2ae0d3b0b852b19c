from tests.wire.only_double.test_make_invoice import *  # noqa: F403
