"""No secret is stored: neither the client's secret nor the wallet key is in a log, record or file."""

import base64
from typing import Any

import pytest
from nostr_sdk import Keys
from pyln.client import RpcError

from tests.support.channel import Json
from tests.support.scripted_relay import ScriptedRelay
from tests.wire.fixtures import Connect, ConnectedApp, wait_until_announced
from tests.wire.node import MakeNode, NodeUnderTest
from tests.wire.test_exactly_once import restart


def wallet_secret(node: NodeUnderTest, client_pubkey: str) -> str:
    """Derive a connection's wallet key as nwc/wallet/connections/record.py does."""
    purpose = f"nwc wallet key {client_pubkey}"
    return str(node.rpc.call("makesecret", {"string": purpose})["secret"])


def datastore(node: NodeUnderTest, key: tuple[str, ...] = ()) -> list[Json]:
    """Return every record of the datastore."""
    entries = node.rpc.call("listdatastore", {"key": list(key)} if key else {})["datastore"]
    records = []
    for entry in entries:
        path = tuple(entry["key"])
        if "hex" in entry:
            records.append(entry)
        elif len(path) > len(key):
            records += datastore(node, path)
    return records


def spellings(secret: str) -> list[bytes]:
    """Return a key in all forms in which it could be written."""
    raw = bytes.fromhex(secret)
    nsec = Keys.parse(secret).secret_key().to_bech32()
    texts = [secret, secret.upper(), nsec, base64.b64encode(raw).decode(), raw[::-1].hex()]
    return [raw, *(text.encode() for text in texts)]


def use_everything(node: NodeUnderTest, app: ConnectedApp) -> None:
    """Use each kind of request and command once, with good and bad values."""
    for params in (
        {"amount": 1000, "description": "x"},
        {"amount": 1000, "description_hash": "5a" * 32, "metadata": {"a": 1}},
        {"amount": -1},
    ):
        for encryption in ("nip44_v2", "nip04"):
            app.ask("make_invoice", params, encryption=encryption)
    app.ask("get_info")
    app.ask("pay_invoice")
    app.ask("", body=f"not JSON, with {app.secret} in it")
    app.ask(app.secret)
    node.rpc.call("nwc-update", {"name": app.name, "methods": "make_invoice"})
    node.rpc.call("nwc-list")
    node.rpc.call("nwc-status")


def test_no_secret_is_logged_or_stored(
    make_node: MakeNode, connect: Connect, scripted_relay: ScriptedRelay
) -> None:
    node = make_node()
    first = connect(node=node, lud16="a@b.c", qr=True)
    second = connect(node=node, relays=scripted_relay.url, channels=[scripted_relay])
    with pytest.raises(RpcError):  # people mistake the secret key for the public key
        node.rpc.call(
            "nwc-connect", {"name": "x", "pubkey": Keys.parse(first.secret).secret_key().to_bech32()}
        )
    for app in (first, second):
        use_everything(node, app)
    scripted_relay.send({**second.request("get_info"), "sig": "0" * 128})
    scripted_relay.send_frame(f"not a message, with {second.secret} in it")
    second.ask("make_invoice", {"amount": 1})
    restart(node, "stop")
    wait_until_announced(node, first.name)
    first.ask("make_invoice", {"amount": 1})
    restart(node, "kill")
    node.rpc.call("nwc-revoke", [second.name])

    log, records = node.log_text().encode(), repr(datastore(node)).encode()
    assert first.name.encode() in log
    assert first.pubkey.encode() in records
    files: dict[Any, bytes] = {
        path: path.read_bytes() for path in node.directory.rglob("*") if path.is_file()
    }
    assert any(first.pubkey.encode() in content for content in files.values())
    # At the end, since lightningd may log the calls that are made here.
    for app in (first, second):
        for secret in (app.secret, wallet_secret(node, app.pubkey)):
            for spelling in spellings(secret):
                assert spelling not in log
                assert spelling not in records
                for path, content in files.items():
                    assert spelling not in content, path
    own = wallet_secret(node, first.pubkey)
    assert Keys.parse(own).public_key().to_hex() == first.wallet_pubkey
