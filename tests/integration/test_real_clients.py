"""The cases of real clients, on a node that a neighbour pays."""

from tests.cases.alby_client import *  # noqa: F403
from tests.cases.rust_client import *  # noqa: F403
from tests.integration.network import paid_node  # noqa: F401
