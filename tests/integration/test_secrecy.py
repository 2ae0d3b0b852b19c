from tests.cases.secrecy import *  # noqa: F403
