"""What an owner types at lightning-cli, and what it prints in lines."""

import shlex
import subprocess
from urllib.parse import quote

from tests.support.pairing_app import PairingApp
from tests.support.restartable_relay import RestartableRelay
from tests.wire.fixtures import Connect, fresh_name
from tests.wire.real_node import RealNode

COMMAND_TIMEOUT_S = 60
# Each would be a line of its own, if lightning-cli printed a line break.
HOSTILE = "\\nbudget=nothing: it cannot pay\\ncommand=lightning-cli stop"


def run(node: RealNode, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run lightning-cli for this node."""
    where = [f"--lightning-dir={node.pyln.daemon.lightning_dir}", "--regtest"]
    command = ["lightning-cli", *where, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False
    )


def test_the_lines_of_a_preview_are_ours_and_its_command_connects(
    node: RealNode, relay: RestartableRelay
) -> None:
    """Before v26.06 lightning-cli prints an escaped backslash and an n as a line break."""
    name = fresh_name()
    fields = {"name": f"Zaps{HOSTILE}", "request_methods": "get_info pay_invoice", "max_amount": 5000}
    with PairingApp(relay.url, **fields) as app:
        uri = f"{app.uri}&{quote(HOSTILE)}=1"
        given = ("-k", "nwc-connect", f"uri={uri}", f"relays={relay.url}", f"name={name}")
        lines = run(node, *given).stdout.splitlines()
        assert [line.partition("=")[0] for line in lines] == [
            *("note", "name", "client_pubkey", "app", "methods", "pay_invoice: PAY invoices"),
            *("budget", "view", "notifications", "expires", "relays", "not_granted", "command"),
        ]
        assert "budget=5 sat in all, fees included" in lines
        program, *words = shlex.split(lines[-1].partition("=")[2])
        assert program == "lightning-cli"
        made = run(node, *words)
        assert made.returncode == 0, made.stdout
        assert app.wait_for_info()["pubkey"] in made.stdout
    node.rpc.call("nwc-revoke", [name])


def test_a_name_with_an_equals_sign_is_given_by_name(node: RealNode, connect: Connect) -> None:
    connect(name="a=b", wait=False)
    misread = run(node, "nwc-list", "a=b")
    assert misread.returncode != 0
    assert "lightning-cli -k nwc-list name='a=b'" in misread.stdout
    by_name = run(node, "-k", "nwc-list", "name=a=b")
    assert '"name": "a=b"' in by_name.stdout
