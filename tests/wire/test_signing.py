"""sign_message: only where the owner names it, and the signature is of the message byte for byte."""

import pytest
from nostr_sdk import Keys

from tests.double.signing import signer_of
from tests.support.app import NIP04, NIP44
from tests.support.channel import Json
from tests.wire.fixtures import Connect, ConnectedApp, fresh_name
from tests.wire.node import NodeUnderTest

MESSAGE = "log in to shop.example: 7f3a… ☕ 'ü'"
LONGEST = 32_768


@pytest.fixture
def signer(connect: Connect) -> ConnectedApp:
    """An app that may sign."""
    return connect(methods="get_info make_invoice sign_message")


@pytest.mark.parametrize("encryption", [NIP44, NIP04])
@pytest.mark.parametrize(
    "message",
    [MESSAGE, "x", "\u2028\x7f\u202e", "é" * (LONGEST // 2)],
    ids=["usual", "x", "odd", "long"],
)
def test_lightningd_verifies_the_signature(
    node: NodeUnderTest, signer: ConnectedApp, message: str, encryption: str
) -> None:
    signed = signer.ask("sign_message", {"message": message}, encryption=encryption).result
    assert signed.keys() == {"message", "signature"}
    assert signed["message"] == message
    pubkey = node.rpc.getinfo()["id"]
    checked = {"message": message, "zbase": signed["signature"], "pubkey": pubkey}
    assert node.rpc.call("checkmessage", checked) == {"pubkey": pubkey, "verified": True}
    other = {**checked, "message": message + "."}
    assert node.rpc.call("checkmessage", other)["verified"] is False
    # Without lightningd, as a website checks it.
    assert signer_of(message.encode(), signed["signature"]) == pubkey


@pytest.mark.parametrize(
    "message",
    ['"', "\\", "a\nb", "a\tb", "\0", "\x1b[31m", "", None, 7, ["x"], "x" * (LONGEST + 1)],
    ids=lambda value: ascii(value)[:20],
)
def test_a_message_that_lightningd_would_change_is_refused(
    signer: ConnectedApp, message: object
) -> None:
    answer = signer.ask("sign_message", {"message": message})
    assert answer.code == "OTHER"
    assert answer.message.startswith("message: must ")


@pytest.mark.parametrize(
    ("message", "signed"), [('"', '\\"'), ("\\", "\\\\"), ("a\nb", "a\\nb"), ("\0", "\\u0000")]
)
def test_lightningd_signs_the_text_with_its_escapes(
    node: NodeUnderTest, message: str, signed: str
) -> None:
    """That is why such messages are refused."""
    zbase = node.rpc.call("signmessage", {"message": message})["zbase"]
    assert signer_of(signed.encode(), zbase) == node.rpc.getinfo()["id"]
    assert signer_of(message.encode(), zbase) != node.rpc.getinfo()["id"]


@pytest.mark.parametrize(
    "params",
    [{}, {"methods": "all"}, {"budget": "unlimited", "view": "node"}, {"methods": "get_info"}],
    ids=str,
)
def test_an_app_cannot_sign_unless_the_owner_names_it(
    node: NodeUnderTest, connect: Connect, params: Json
) -> None:
    app = connect(**params)
    assert "sign_message" not in app.shown["methods"]
    assert "sign_message" not in app.ask("get_info").result["methods"]
    answer = app.ask("sign_message", {"message": MESSAGE})
    assert answer.code == "RESTRICTED"
    assert answer.message == "sign_message is not allowed for this connection"
    node.rpc.call("nwc-update", {"name": app.name, "methods": "get_info,sign_message"})
    assert app.ask("get_info").result["methods"] == ["get_info", "sign_message"]
    assert app.ask("sign_message", {"message": MESSAGE}).result["signature"]
    node.rpc.call("nwc-update", {"name": app.name, "methods": "all"})
    assert app.ask("sign_message", {"message": MESSAGE}).code == "RESTRICTED"


def test_export_and_import_keep_the_right_to_sign(node: NodeUnderTest) -> None:
    named, unnamed = fresh_name(), fresh_name()
    node.rpc.call("nwc-connect", {"name": named, "methods": "get_info sign_message"})
    node.rpc.call("nwc-connect", {"name": unnamed})
    exported = node.rpc.call("nwc-export")
    ours = [entry for entry in exported["connections"] if entry["name"] in (named, unnamed)]
    assert [entry["methods"] for entry in ours] == [["get_info", "sign_message"], "all"]
    copies = [
        {**entry, "name": f"copy of {entry['name']}", "pubkey": Keys.generate().public_key().to_hex()}
        for entry in ours
    ]
    imported = node.rpc.call("nwc-import", {"connections": copies})
    assert imported["created"] == 2
    shown = {one["name"]: one["methods"] for one in node.rpc.call("nwc-list")["connections"]}
    assert shown[f"copy of {named}"] == ["get_info", "sign_message"]
    assert "sign_message" not in shown[f"copy of {unnamed}"]
    for name in (named, unnamed, f"copy of {named}", f"copy of {unnamed}"):
        node.rpc.call("nwc-revoke", {"name": name})
