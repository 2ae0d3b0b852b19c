"""Nodes that tests share: one of each kind, reset after a test that fails (tests/wire/shared.py)."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

TESTS = """
import pytest
from tests.wire.shared import shared

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


def run_pytest(test: Path, *options: str) -> str:
    """Run a test module without the repository's settings; return pytest's output."""
    given = ["-p", "tests.wire.shared", "-c", "/dev/null", f"--rootdir={test.parent}", "-q", *options]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *given, str(test)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return done.stdout


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
    output = run_pytest(test)
    assert output.splitlines()[-1].startswith(f"{outcome} in "), output


KINDS = """
import pytest
from tests.wire.conftest import node_kind
from tests.wire.fixtures import node
from tests.wire.shared import shared

class Node:
    def __init__(self, kind):
        self.kind = kind
    def begin_anew(self):
        print(f"EVENT {self.kind} begins anew")

def running(kind):
    print(f"EVENT {kind} starts")
    with shared(Node(kind)) as node:
        yield node
    print(f"EVENT {kind} ends")

@pytest.fixture(scope="module")
def double_node(node_kind):
    yield from running("double")

@pytest.fixture(scope="module")
def lightningd_node(node_kind):
    yield from running("lightningd")

def test_that_fails(node):
    print(f"EVENT first on {node.kind}")
    assert False

def test_that_passes(request):
    node = request.getfixturevalue("node")
    print(f"EVENT second on {node.kind}")
"""


def events_on(kind: str) -> list[str]:
    what = ["starts", f"first on {kind}", "begins anew", f"second on {kind}", "ends"]
    return [event if kind in event else f"{kind} {event}" for event in what]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], [*events_on("double"), *events_on("lightningd")]),
        (["-m", "double"], events_on("double")),
        (["-m", "lightningd"], events_on("lightningd")),
    ],
    ids=["both", "double", "lightningd"],
)
def test_a_module_has_one_node_of_each_selected_kind_at_a_time(
    tmp_path: Path, options: list[str], expected: list[str]
) -> None:
    test = tmp_path / "test_it.py"
    test.write_text(KINDS)
    output = run_pytest(test, "-s", "--tb=no", *options).splitlines()
    assert [line.partition("EVENT ")[2] for line in output if "EVENT " in line] == expected
