"""What only the double can do: be slow, hang, answer nonsense, and be another version."""

import pytest


@pytest.fixture(scope="module", params=[pytest.param("double", marks=pytest.mark.double)])
def node_kind(request: pytest.FixtureRequest) -> str:
    """The kind of node that the test runs on."""
    return str(request.param)
