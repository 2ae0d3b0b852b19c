"""A shared node is reset after a test that fails (tests/cases/shared.py)."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

TESTS = """
import pytest
from tests.cases.shared import shared

class Node:
    times = 0
    def begin_anew(self):
        self.times += 1

@pytest.fixture(scope="module")
def node():
    with shared(Node()) as node:
        yield node

@pytest.fixture
def leaves_a_fault():
    yield
    assert not FAILS_AT_ITS_END

def test_that_may_fail(node, leaves_a_fault):
    assert not FAILS

def test_next(node):
    assert node.times == EXPECTED

def test_after_that(node):
    assert node.times == EXPECTED
"""


@pytest.mark.parametrize(
    ("fails", "fails_at_its_end", "outcome"),
    [
        (True, False, "1 failed, 2 passed"),
        (False, True, "3 passed, 1 error"),
        (False, False, "3 passed"),
    ],
)
def test_a_shared_node_is_reset_after_a_failure(
    tmp_path: Path, fails: bool, fails_at_its_end: bool, outcome: str
) -> None:
    test = tmp_path / "test_it.py"
    given = {"FAILS": fails, "FAILS_AT_ITS_END": fails_at_its_end, "EXPECTED": fails or fails_at_its_end}
    test.write_text("".join(f"{name} = {int(value)}\n" for name, value in given.items()) + TESTS)
    options = ["-p", "tests.cases.shared", "-c", "/dev/null", f"--rootdir={tmp_path}", "-q"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(test)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.stdout.splitlines()[-1].startswith(f"{outcome} in "), done.stdout
