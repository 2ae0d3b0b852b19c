"""Provides real nodes, or skips the integration tests loudly if lightningd or bitcoind is missing."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
MISSING = [program for program in ("lightningd", "bitcoind") if shutil.which(program) is None]

for module in (
    "tests.cases",
    "tests.support.app",
    "tests.support.channel",
    "tests.integration.contract",
):
    pytest.register_assert_rewrite(module)

from tests.cases.fixtures import *  # noqa: E402, F403
from tests.cases.shared import *  # noqa: E402, F403
from tests.support.lightningd_version import running_version  # noqa: E402
from tests.support.not_run import NotRun, say_why_skipped  # noqa: E402

if not MISSING:
    # pyln-testing reads these when it is imported. Deprecated commands are allowed, as they are by
    # lightningd's default.
    os.environ.update(VALGRIND="0", TEST_NETWORK="regtest", RUST="0", DEPRECATED_APIS="1")
    from tests.integration.pyln_fixtures import *  # noqa: F403

_not_run = NotRun(
    HERE,
    "integration tests",
    f"{' and '.join(MISSING)} not on PATH" if MISSING else "",
    ["They need lightningd and bitcoind. Everything above ran without a real node."],
)


def pytest_report_header() -> str:
    return f"lightningd on PATH: {running_version() or 'none'}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    _not_run.skip(items)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """Report what did not run at the very end, after the list of the skipped tests."""
    yield
    say_why_skipped(terminalreporter)
    _not_run.say(terminalreporter)
