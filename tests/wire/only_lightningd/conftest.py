"""What only lightningd can do: channels, a chain, hostile payees, reckless, and judging the double."""

import pytest


@pytest.fixture(scope="module", params=[pytest.param("lightningd", marks=pytest.mark.lightningd)])
def node_kind(request: pytest.FixtureRequest) -> str:
    """The kind of node that the test runs on."""
    return str(request.param)
