from tests.cases.alby_client import *  # noqa: F403
from tests.cases.rust_client import *  # noqa: F403
