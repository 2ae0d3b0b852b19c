"""A node restored from its seed alone, and the commands of nwc/INSTALL.md for export and import."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from nostr_sdk import Keys

from tests.support.restartable_relay import RestartableRelay
from tests.wire.fixtures import Connect, wait_until_announced
from tests.wire.real_node import RealNode, plugin_options

COMMAND_TIMEOUT_S = 60
INSTALL = Path(__file__).parents[3] / "nwc" / "INSTALL.md"


def shell(node: RealNode, command: str, directory: Path) -> str:
    """Run a shell command of nwc/INSTALL.md, with lightning-cli for this node; return its output."""
    cli = f"lightning-cli --lightning-dir={node.pyln.daemon.lightning_dir} --regtest"
    command = command.replace("lightning-cli", cli)
    done = subprocess.run(
        ["/bin/bash", "-c", command],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_connections_work_on_a_node_restored_from_its_seed(
    node: RealNode, node_factory: Any, relay: RestartableRelay, connect: Connect, tmp_path: Path
) -> None:
    """One connection is restored from the client's key alone, the other from an export."""
    by_hand, by_list = connect(), connect(name="a = b", budget="1000sat", renewal="daily")
    shell(node, "lightning-cli nwc-export > nwc.json", tmp_path)
    again = node_factory.get_node(options=plugin_options(relay.url), start=False)
    secret = Path("regtest") / "hsm_secret"
    node.pyln.stop()
    shutil.copy(Path(node.pyln.daemon.lightning_dir) / secret, Path(again.daemon.lightning_dir) / secret)
    again.start()
    restored = RealNode(again)
    try:
        assert restored.rpc.getinfo()["id"] == node.id
        assert restored.rpc.call("nwc-list")["connections"] == []
        called = {"name": by_hand.name, "pubkey": by_hand.pubkey}
        shown = restored.rpc.call("nwc-connect", called)
        assert shown["wallet_pubkey"] == by_hand.wallet_pubkey
        [command] = set(
            re.findall(r'lightning-cli .*nwc-import .*"\$\(cat nwc.json\)"', INSTALL.read_text())
        )
        answer = json.loads(shell(restored, command, tmp_path))
        assert [one["result"] for one in answer["connections"]] == ["unchanged", "created"]
        for app in (by_hand, by_list):
            wait_until_announced(restored, app.name)
            assert app.ask("make_invoice", {"amount": 1000}).result["invoice"].startswith("lnbcrt")
    finally:
        again.stop()
        node.start_node()


def test_a_list_too_long_for_a_command_line_is_imported_in_parts(
    node: RealNode, relay: RestartableRelay, tmp_path: Path
) -> None:
    """Linux limits one argument to 128 KiB. The command is that of nwc/INSTALL.md."""
    entries = [
        {
            "name": f"app {number}",
            "pubkey": Keys.generate().public_key().to_hex(),
            "relays": [f"{relay.url}/{'x' * 200}"],
        }
        for number in range(450)
    ]
    (tmp_path / "nwc.json").write_text(json.dumps({"version": 1, "connections": entries}))
    assert (tmp_path / "nwc.json").stat().st_size > 128 * 1024
    lines = INSTALL.read_text().splitlines()
    [first] = [line.strip() for line in lines if "nwc-import" in line and "[:200]" in line]
    try:
        for part, created in (("[:200]", 200), ("[200:400]", 200), ("[400:600]", 50)):
            answer = json.loads(shell(node, first.replace("[:200]", part), tmp_path))
            assert answer["created"] == created
    finally:
        node.rpc.call("nwc-forget", {"confirm": True})
