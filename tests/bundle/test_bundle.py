"""The bundle needs nothing else, leaves nothing behind, and says when it is incomplete."""

import shlex
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.bundle.root import make_root, write_starter
from tests.support.certificate import Certificate
from tests.support.restartable_relay import RestartableRelay
from tests.support.scripted_relay import ScriptedRelay
from tests.wire.double_node import DoubleNode
from tests.wire.fixtures import Connect
from tests.wire.node import MakeNode
from tests.wire.test_relays import relay_state
from tests.wire.test_tls import certificate, tls_relay  # noqa: F401 - fixtures

COFFEE = {"amount": 1000, "description": "coffee"}
MAX_SIZE = 45_000_000


@pytest.fixture
def own_bundle(tmp_path: Path, bundle: Path) -> Path:
    """A copy that a test may change, in a folder whose name needs quoting in a shell."""
    return shutil.copytree(bundle, tmp_path / "it's mine" / "nwc")


def everything_in(folder: Path) -> dict[str, Any]:
    """Return the entries of a folder with the attributes that change when a file is written."""
    stats = {path: path.lstat() for path in folder.rglob("*")}
    return {str(path): (stat.st_mode, stat.st_size, stat.st_mtime_ns) for path, stat in stats.items()}


def test_the_root_file_system_has_no_python(root: Path) -> None:
    programs = [
        path for folder in ("bin", "usr/bin", "usr/local/bin") for path in (root / folder).glob("*")
    ]
    assert [path for path in programs if path.name.startswith("python")] == []


def test_the_archive_is_one_folder(archive: Path) -> None:
    with tarfile.open(archive) as tar:
        entries = tar.getmembers()
    assert {Path(entry.name).parts[0] for entry in entries} == {"nwc"}
    assert [entry.name for entry in entries if entry.isfile() and entry.mode & 0o111] == ["nwc/nwc"]
    assert {(entry.uid, entry.gid, entry.mtime) for entry in entries} == {(0, 0, 0)}
    assert sum(entry.size for entry in entries) < MAX_SIZE


@pytest.mark.parametrize("end", [lambda double: double.stop(), lambda double: double.kill()])
def test_the_bundle_ends_with_lightningd(node: DoubleNode, end: Callable[[Any], None]) -> None:
    """Both `end`s wait until the plugin has ended, and raise TimeoutError if it does not."""
    end(node.double)
    node.double.start()
    assert node.rpc.call("nwc-list")["connections"] == []


def test_the_bundle_writes_no_file(
    tmp_path: Path,
    own_bundle: Path,
    make_node: MakeNode,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for variable in ("TMPDIR", "HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(variable, str(elsewhere))
    before = everything_in(own_bundle)
    node = make_node(plugin=own_bundle / "nwc")
    assert connect(node=node).ask("make_invoice", COFFEE).result["invoice"]
    node.stop_plugin()
    assert everything_in(own_bundle) == before
    assert everything_in(elsewhere) == {}


def test_paths_are_utf_8_without_a_locale(
    tmp_path: Path, plugin_file: Path, relay: RestartableRelay, connect: Connect
) -> None:
    node = DoubleNode(tmp_path / "nœud", plugin_file, {"nwc-relay": relay.url})
    with node.double:
        assert connect(node=node).ask("make_invoice", COFFEE).result["invoice"]


@pytest.mark.parametrize("where", ["bundle", "system"])
def test_certificates_of_the_system_or_else_of_the_bundle_are_used(
    tmp_path: Path,
    own_bundle: Path,
    make_node: MakeNode,
    connect: Connect,
    certificate: Certificate,  # noqa: F811
    tls_relay: ScriptedRelay,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    where: str,
) -> None:
    for variable in ("SSL_CERT_FILE", "SSL_CERT_DIR"):  # the owner's choice would override both
        monkeypatch.delenv(variable, raising=False)
    root = make_root(tmp_path / "root")
    trusted = {
        "bundle": own_bundle / "_internal/certifi/cacert.pem",
        "system": root / "etc/ssl/certs/ca-certificates.crt",
    }[where]
    trusted.parent.mkdir(parents=True, exist_ok=True)
    trusted.write_bytes(certificate.path.read_bytes())
    node = make_node(plugin=write_starter(tmp_path / "nwc", root, own_bundle, visible=tmp_path.parent))
    app = connect(node=node, relays=tls_relay.url, channels=[tls_relay])
    assert app.ask("make_invoice", COFFEE).result["invoice"]
    assert relay_state(node, tls_relay.url)["state"] == "connected"


def test_an_incomplete_bundle_says_what_to_do(make_node: MakeNode, own_bundle: Path) -> None:
    shutil.rmtree(own_bundle / "_internal" / "coincurve")
    node = make_node(plugin=own_bundle / "nwc")
    line = node.wait_for_log("UNUSUAL plugin-nwc: nwc: the plugin cannot run")
    assert "No module named 'coincurve" in line
    assert line.endswith(f"Unpack the bundle again over {shlex.quote(str(own_bundle))}")
