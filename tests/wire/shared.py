"""Nodes that several tests share. After a test that fails, the node is restored for the next tests."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import TypeVar

import pytest

from tests.wire.node import NodeUnderTest

_shared: list[NodeUnderTest] = []
_failed = pytest.StashKey[bool]()

N = TypeVar("N", bound=NodeUnderTest)


@contextmanager
def shared(node: N) -> Iterator[N]:
    """Share a running node; call its `begin_anew` after each test that fails."""
    _shared.append(node)
    try:
        yield node
    finally:
        _shared.remove(node)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        item.stash[_failed] = True
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    try:
        yield
    except BaseException:
        item.stash[_failed] = True
        raise
    finally:
        if item.stash.get(_failed, False):
            for node in _shared:
                node.begin_anew()
