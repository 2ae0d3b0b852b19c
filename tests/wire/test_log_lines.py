"""The plugin's lines in lightningd's log: few at info, each request at debug, never any content."""

import json
import re

from tests.support.restartable_relay import RestartableRelay
from tests.support.scripted_relay import ScriptedRelay
from tests.support.waiting import wait_until
from tests.wire.fixtures import Connect, wait_until_announced
from tests.wire.node import NodeUnderTest
from tests.wire.payee import Payee
from tests.wire.test_relays import relay_state, wait_until_back, wait_until_lost
from tests.wire.test_spending import AMOUNT_MSAT, pay, wait_until_booked
from tests.wire.three_nodes import *  # noqa: F403


def lines(node: NodeUnderTest, level: str, since: int) -> list[str]:
    """Return the lines that the plugin has logged at a level of lightningd, such as `INFO`."""
    found = re.compile(rf"\b{level}\s+plugin-plugin\.py: nwc[\w.]* *: (.*)")
    return [match[1] for line in node.log_text().splitlines()[since:] if (match := found.search(line))]


def test_info_has_one_line_for_each_connection_and_payment(
    node: NodeUnderTest, payee: Payee, connect: Connect, own_relay: RestartableRelay
) -> None:
    """One line for each connection made and revoked, and one for each payment."""
    since = node.mark()
    app = connect(relays=own_relay.url, budget="1000sat")
    made = app.ask("make_invoice", {"amount": 1000}).result
    node.pay(made["invoice"])
    wait_until(lambda: len(lines(node, "INFO", since)) == 2, "the received payment in the log")
    assert pay(app, payee.invoice(AMOUNT_MSAT)).result
    refused = payee.invoice(AMOUNT_MSAT)
    payee.forget(refused)
    assert pay(app, refused).code == "PAYMENT_FAILED"
    assert pay(app, payee.invoice(10**9)).code == "QUOTA_EXCEEDED"
    assert app.ask("make_invoice", {"amount": -1}).code == "OTHER"
    wait_until_booked(node, app)
    node.rpc.call("nwc-update", {"name": app.name, "max_payment": "1sat"})
    own_relay.kill()
    wait_until_lost(node, own_relay)
    own_relay.start()
    wait_until_back(node, own_relay)
    node.stop_plugin()
    node.start_plugin()
    wait_until_announced(node, app.name)
    node.rpc.call("nwc-revoke", {"name": app.name})
    node.wait_for_log(f"connection '{app.name}' revoked", since=since)
    assert lines(node, "INFO", since) == [
        f"connection '{app.name}' created",
        f"payment received through '{app.name}'",
        f"pay_invoice of '{app.name}': settled",
        f"pay_invoice of '{app.name}': failed",
        f"connection '{app.name}' revoked",
    ]
    for level in ("WARN", "UNUSUAL", "ERROR", r"\*\*BROKEN\*\*"):
        assert lines(node, level, since) == []


def test_each_request_is_logged_at_debug(node: NodeUnderTest, connect: Connect) -> None:
    """The line has method, connection and outcome, and none of the parameters."""
    since = node.mark()
    app = connect()
    made = app.ask("make_invoice", {"amount": 123_457, "description": "a secret"}).result
    app.ask("make_invoice", {"amount": "123457"})
    app.ask("pay_invoice", {"invoice": made["invoice"]})
    app.ask("a_secret_method")
    node.wait_for_log(f"unknown of '{app.name}'", since=since)
    logged = lines(node, "DEBUG", since)
    assert [line for line in logged if f" of '{app.name}'" in line] == [
        f"make_invoice of '{app.name}': ok",
        f"make_invoice of '{app.name}': OTHER",
        f"pay_invoice of '{app.name}': RESTRICTED",
        f"unknown of '{app.name}': NOT_IMPLEMENTED",
    ]
    for word in ("secret", "123457", made["invoice"], made["payment_hash"]):
        assert not [line for line in logged if word in line]


def test_no_content_is_logged(
    node: NodeUnderTest, payee: Payee, connect: Connect, scripted_relay: ScriptedRelay
) -> None:
    """No logger writes the words of an app or a relay, at any level."""
    since = node.mark()
    app = connect(relays=scripted_relay.url, channels=[scripted_relay], budget="1000sat", view="node")
    secrets = ["a-description", "a-metadata-value", "a-bad-amount", "a-relays-words", "c0ffee" * 5]
    made = app.ask(
        "make_invoice",
        {"amount": 987_654, "description": secrets[0], "metadata": {"comment": secrets[1]}},
    ).result
    node.pay(made["invoice"])
    app.wait_for_notifications(made["payment_hash"])
    found = app.ask("lookup_invoice", {"payment_hash": made["payment_hash"]}).result
    assert app.ask("list_transactions").result["transactions"]
    assert app.ask("make_invoice", {"amount": secrets[2]}).code == "OTHER"
    assert app.ask("pay_invoice", {"invoice": secrets[2]}).code == "OTHER"
    invoice = payee.invoice(AMOUNT_MSAT)
    paid = pay(app, invoice, metadata={"comment": secrets[1]}).result
    refused = payee.invoice(AMOUNT_MSAT)
    payee.forget(refused)
    assert pay(app, refused).code == "PAYMENT_FAILED"
    records = [{"type": 7_629_169, "value": secrets[4]}]
    sent = {"amount": AMOUNT_MSAT, "pubkey": payee.id, "tlv_records": records}
    keysend = app.ask("pay_keysend", sent).result
    scripted_relay.send_frame(json.dumps(["NOTICE", secrets[3]]))
    scripted_relay.send_frame(secrets[3])
    scripted_relay.on_filter = scripted_relay.on_event = lambda _what, _known: f"error: {secrets[3]}"
    scripted_relay.end_subscriptions(f"error: {secrets[3]}")
    wait_until(
        lambda: secrets[3] in str(relay_state(node, scripted_relay.url)["last_error"]),
        "the relay's error to be shown",
    )
    node.rpc.call("nwc-revoke", [app.name])
    node.wait_for_log(f"connection '{app.name}' revoked", since=since)
    secrets += [made["invoice"], made["payment_hash"], found["preimage"], invoice["bolt11"], "987654"]
    secrets += [refused["bolt11"], paid["preimage"], keysend["preimage"], payee.id]
    ours = [line for line in node.log_text().splitlines()[since:] if "plugin-plugin.py" in line]
    assert any(f"pay_keysend of '{app.name}'" in line for line in ours)
    for secret in secrets:
        assert not [line for line in ours if secret in line]
    assert not [line for line in ours if re.search(r"plugin.py: (websockets|asyncio)", line)]
