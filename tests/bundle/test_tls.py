from tests.cases.tls import *  # noqa: F403
