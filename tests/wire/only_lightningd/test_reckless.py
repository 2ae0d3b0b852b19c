"""reckless installs the plugin into a running node, removes and updates it, and no stored data is lost.

The program comes with lightningd. It installs packages from PyPI.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyln.client import RpcError

from tests.support.app import App
from tests.support.channel import Json
from tests.support.processes import ROOT
from tests.support.restartable_relay import RestartableRelay
from tests.wire.fixtures import Connect, ConnectedApp, budget_of, wait_until_announced
from tests.wire.network import CAPACITY_SAT, line
from tests.wire.real_node import RealNode
from tests.wire.real_payee import RealPayee

FOLDERS = ("nwc", "tests")
FILES = ("plugin.py", "requirements.txt", "Makefile", "README.md")
BUDGET_MSAT = 100_000
PAID_MSAT = 60_000
GITHUB = "https://github.com/lightningd/plugins"
# reckless's names for its ways to install Python packages.
INSTALLERS = {"pip": "python3venv", "uv": "pythonuvlegacy"}
_TIMEOUT_S = 300


def run(*command: str | Path, **how: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command, capture_output=True, text=True, timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL, **how
    )


@pytest.fixture(scope="module")
def pypi(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip if packages cannot be downloaded from PyPI."""
    folder = tmp_path_factory.mktemp("packages")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--retries=1"]
    done = run(*pip, "download", "-q", "--no-deps", "--no-cache-dir", "-d", folder, "segno", check=False)
    if done.returncode:
        pytest.skip(f"NOT RUN: reckless needs packages from PyPI: {done.stderr.splitlines()[-1]}")


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with reckless and the programs that it calls."""
    tools = tmp_path_factory.mktemp("tools")
    reckless = Path(shutil.which("lightningd") or "").resolve().with_name("reckless")
    if not reckless.exists():
        pytest.skip(f"NOT RUN: there is no {reckless}")
    (tools / "reckless").symlink_to(reckless)
    for name in ("git", "lightning-cli"):
        program = shutil.which(name)
        if program is None:
            pytest.skip(f"NOT RUN: reckless needs {name} on PATH")
        (tools / name).symlink_to(program)
    for name in ("python3", "pip"):
        (tools / name).symlink_to(Path(sys.executable).with_name(name))
    return tools


@pytest.fixture(params=INSTALLERS)
def installer(request: pytest.FixtureRequest, tools: Path) -> str:
    """pip or uv; skips uv if this version of reckless does not know it."""
    if INSTALLERS[request.param] not in (tools / "reckless").read_text():
        pytest.skip(f"reckless of this version (before v25.09) does not know {request.param}")
    return str(request.param)


@pytest.fixture
def path(installer: str, tools: Path, pypi: None, tmp_path: Path) -> str:
    """PATH for reckless, which uses uv if it is on PATH, otherwise pip."""
    others = [d for d in os.environ["PATH"].split(os.pathsep) if not (Path(d) / "uv").exists()]
    if installer == "uv":
        uv = shutil.which("uv")
        if uv is None:
            pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
            run(*pip, "install", "-q", "--target", tmp_path / "uv", "uv", check=True)
            uv = str(tmp_path / "uv" / "bin" / "uv")
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "uv").symlink_to(uv)
        others.insert(0, str(tmp_path / "bin"))
    return os.pathsep.join([str(tools), *others])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A git repository with this code as it is on disk, committed or not."""
    source = tmp_path / "source of nwc"
    source.mkdir()
    ignored = shutil.ignore_patterns("__pycache__", "node_modules")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in FILES:
        shutil.copy(ROOT / name, source)
    run("git", "init", "-q", source, check=True)
    commit(source)
    return source


def commit(source: Path) -> None:
    author = ("-c", "user.name=tests", "-c", "user.email=tests@example.com")
    run("git", "-C", source, "add", "-A", check=True)
    run("git", "-C", source, *author, "commit", "-q", "-m", "as it is", check=True)


@pytest.fixture(scope="module")
def nodes(node_factory: Any, bitcoind: Any) -> list[RealNode]:
    """A node without a plugin, and one that it can pay."""
    return line(node_factory, bitcoind, [{}, {}], pushed_msat=CAPACITY_SAT * 500)


class Reckless:
    """The command `reckless` for one node."""

    def __init__(self, node: RealNode, path: str) -> None:
        self._path = path
        lightning_dir = node.directory.parent
        self.folder = lightning_dir / "reckless" / "nwc"
        program = shutil.which("reckless", path=path)
        assert program
        self._knows_update = "update_plugins" in Path(program).read_text()
        self._options = ["--lightning", str(lightning_dir), "--network", "regtest"]
        # If this file is missing, reckless asks whether to make it.
        (node.directory / "config").touch()

    def __call__(self, *command: str | Path) -> str:
        environment = {**os.environ, "PATH": self._path}
        # A folder named nwc in the current directory would be taken for the source.
        folder = self.folder.parents[1]
        done = run("reckless", "-v", *self._options, *command, env=environment, cwd=folder, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def update(self, plugin: str) -> None:
        """Run `reckless update`, or uninstall and install if reckless lacks it (before v25.05)."""
        if self._knows_update:
            self("update", plugin)
        else:
            self("uninstall", plugin)
            self("install", plugin)


@pytest.fixture
def reckless(nodes: list[RealNode], path: str, source: Path) -> Iterator[Reckless]:
    """reckless with the test's source as its only one."""
    reckless = Reckless(nodes[0], path)
    reckless("source", "add", source)
    reckless("source", "remove", GITHUB)
    yield reckless
    reckless("uninstall", "nwc")
    reckless("source", "remove", source)


@pytest.fixture
def node(nodes: list[RealNode], reckless: Reckless) -> RealNode:
    return RealNode(nodes[0].pyln, reckless.folder / "nwc.py")


@pytest.fixture
def payee(nodes: list[RealNode]) -> RealPayee:
    return RealPayee(nodes[1].pyln)


def pay(app: App, payee: RealPayee, amount_msat: int) -> Json:
    return app.ask("pay_invoice", {"invoice": payee.invoice(amount_msat)["bolt11"]}).body


def stored(node: RealNode, app: ConnectedApp) -> Json:
    """Return what the owner and the app see of the connection, its budget and its payments."""
    wait_until_announced(node, app.name)
    budget_of(node, app.name)  # waits
    [shown] = node.rpc.call("nwc-list", [app.name])["connections"]
    kept = ("client_pubkey", "wallet_pubkey", "methods", "created_at", "budget", "payments")
    with App(app.uri) as opened:
        return {
            "owner": {name: shown.get(name) for name in kept},
            "budget": opened.ask("get_budget").result,
            "transactions": opened.ask("list_transactions", {"unpaid": True}).result["transactions"],
        }


@pytest.mark.timeout(900)
def test_connections_and_budgets_survive_uninstall_install_and_update(
    node: RealNode,
    payee: RealPayee,
    reckless: Reckless,
    source: Path,
    installer: str,
    relay: RestartableRelay,
    connect: Connect,
) -> None:
    out = reckless("install", "nwc")
    assert f"plugin installed: {reckless.folder}" in out
    assert f"using installer {INSTALLERS[installer]}" in out

    status = node.rpc.call("nwc-status")
    assert status["installation"] == "reckless"
    assert status["lightningd_version"] == node.rpc.call("getinfo")["version"]

    app = connect(node=node, relays=relay.url, budget=f"{BUDGET_MSAT}msat", renewal="never")
    assert app.ask("make_invoice", {"amount": 21_000, "description": "coffee"}).result["invoice"]
    assert pay(app, payee, PAID_MSAT)["error"] is None
    before = stored(node, app)
    assert before["budget"]["used_budget"] == PAID_MSAT
    assert len(before["transactions"]) == 2

    reckless("uninstall", "nwc")
    assert not reckless.folder.exists()
    with pytest.raises(RpcError, match="Unknown command"):
        node.rpc.call("nwc-status")

    reckless("install", "nwc")
    assert stored(node, app) == before
    assert pay(app, payee, PAID_MSAT)["error"]["code"] == "QUOTA_EXCEEDED"

    version = source / "nwc" / "__init__.py"
    version.write_text(version.read_text().replace('__version__ = "', '__version__ = "99.'))
    commit(source)
    reckless.update("nwc")
    assert node.rpc.call("nwc-status")["version"].startswith("99.")
    assert stored(node, app) == before

    node.restart_node()
    assert stored(node, app) == before
