from tests.cases.receiving import *  # noqa: F403
