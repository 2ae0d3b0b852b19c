from tests.cases.commands import *  # noqa: F403
