from tests.cases.make_invoice import *  # noqa: F403
