"""Runs each test on the double and on lightningd, or skips the latter loudly if there is none."""

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.support.lightningd_version import running_version
from tests.support.not_run import NotRun, say_why_skipped
from tests.wire.double_fixtures import *  # noqa: F403
from tests.wire.fixtures import *  # noqa: F403
from tests.wire.shared import *  # noqa: F403

MISSING = [program for program in ("lightningd", "bitcoind") if shutil.which(program) is None]

if not MISSING:
    # pyln-testing reads these when it is imported. Deprecated commands are allowed, as they are by
    # lightningd's default.
    os.environ.update(VALGRIND="0", TEST_NETWORK="regtest", RUST="0", DEPRECATED_APIS="1")
    from tests.wire.lightningd_fixtures import *  # noqa: F403

_not_run = NotRun(
    "integration tests",
    f"{' and '.join(MISSING)} not on PATH" if MISSING else "",
    ["They need lightningd and bitcoind. Everything above ran without a real node."],
)


# Every test has it, so that `-m double` and `-m lightningd` select each test once. The tests of a
# module run on one kind of node first, and then on the other, since the scope is the module.
@pytest.fixture(
    scope="module",
    autouse=True,
    params=[
        pytest.param("double", marks=pytest.mark.double),
        pytest.param("lightningd", marks=pytest.mark.lightningd),
    ],
)
def node_kind(request: pytest.FixtureRequest) -> str:
    """The kind of node that the test runs on."""
    return str(request.param)


def pytest_report_header() -> str:
    return f"lightningd on PATH: {running_version() or 'none'}"


# Last, so that it counts only what is selected.
@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    _not_run.skip([item for item in items if item.get_closest_marker("lightningd")])


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """Report what did not run at the very end, after the list of the skipped tests."""
    yield
    say_why_skipped(terminalreporter)
    _not_run.say(terminalreporter)
