"""Real nodes for the tests here, or, where they are not on PATH, a skip that nobody overlooks."""

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

if not MISSING:
    # pyln-testing reads these when it is imported. Deprecated commands are there as they are for owners,
    # whose lightningd allows them.
    os.environ.update(VALGRIND="0", TEST_NETWORK="regtest", RUST="0", DEPRECATED_APIS="1")
    from tests.integration.pyln_fixtures import *  # noqa: F403

_skipped = pytest.StashKey[int]()


def pytest_report_header() -> str:
    return f"lightningd on PATH: {running_version() or 'none'}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    ours = [item for item in items if HERE in item.path.parents]
    config.stash[_skipped] = len(ours) if MISSING else 0
    if MISSING:
        reason = f"{' and '.join(MISSING)} not on PATH"
        for item in ours:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> Iterator[None]:
    """Have the last word, after the list of the skipped tests."""
    yield
    if count := config.stash.get(_skipped, 0):
        say = terminalreporter.write_line
        terminalreporter.section("NOT RUN: integration tests", sep="!", yellow=True, bold=True)
        say(f"NOT RUN: integration tests need lightningd and bitcoind on PATH; {count} tests skipped")
        say(f"Missing here: {', '.join(MISSING)}. Everything above ran without a real node.")
