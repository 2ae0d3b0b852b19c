"""The invoice commands, after lightningd/invoice.c and wallet/invoices.c."""

import asyncio
import hashlib
import secrets
import sqlite3
import time
from typing import TYPE_CHECKING

from tests.double import bolt11, params, wait
from tests.double.bolt11 import Bolt11, Bolt11Error
from tests.double.jsonio import Json, dumps
from tests.double.params import INVALID_PARAMS, Param, RpcError, opt

if TYPE_CHECKING:
    from tests.double.node import Node

LABEL_ALREADY_EXISTS = 900
PREIMAGE_ALREADY_EXISTS = 901
WAIT_TIMED_OUT = 904
NOT_FOUND = 905
STATUS_UNEXPECTED = 906
NO_DESCRIPTION = 908

LABEL_BYTES = 128
WEEK = 7 * 24 * 3600
CLTV_FINAL = {"bitcoin": 18}
# var_onion and payment_secret (compulsory), basic_mpp, route_blinding
FEATURES = 0x02024100
MAX_EXPIRY = 1 << 60


def invoice(
    node: "Node",
    amount_msat: int | None,
    label: str,
    description: str,
    expiry: int,
    preimage: bytes | None,
    cltv: int,
    deschashonly: bool,
    **_ignored: Json,
) -> Json:
    """Make an invoice."""
    if len(_escaped(label)) > LABEL_BYTES:
        raise RpcError(INVALID_PARAMS, f"Label '{label}' over {LABEL_BYTES} bytes")
    size, maximum = len(description.encode()), 639 if node.settings.is_since("25.12") else 640
    if size > maximum and not deschashonly:
        message = f"Description greater than {maximum} bytes invalid (description length {size})"
        raise RpcError(INVALID_PARAMS, message)
    preimage = preimage or secrets.token_bytes(32)
    content = Bolt11(
        currency=bolt11.CURRENCIES[node.settings.network],
        created_at=int(time.time()),
        payment_hash=hashlib.sha256(preimage).digest(),
        payment_secret=bolt11.invoice_secret(preimage),
        amount_msat=amount_msat,
        description=description,
        description_hash=hashlib.sha256(description.encode()).digest() if deschashonly else None,
        expiry=expiry,
        min_final_cltv_expiry=cltv or CLTV_FINAL.get(node.settings.network, 10),
        features=FEATURES,
    )
    _abort_on_expiry(node, expiry)
    if _find(node, "payment_hash", content.payment_hash):
        raise RpcError(PREIMAGE_ALREADY_EXISTS, "preimage already used")
    if _find(node, "label", label):
        raise RpcError(LABEL_ALREADY_EXISTS, f"Duplicate label '{label}'")
    row = _store(node, content, label, preimage)
    return {
        "payment_hash": row["payment_hash"].hex(),
        "expires_at": row["expires_at"],
        "bolt11": row["bolt11"],
        "payment_secret": content.payment_secret.hex(),
        "created_index": row["id"],
        "warning_capacity": "Insufficient incoming channel capacity to pay invoice",
    }


def createinvoice(node: "Node", invstring: str, label: str, preimage: bytes) -> Json:
    """Sign and store an invoice that the caller wrote, without its `d` if it has an `h`."""
    try:
        currency = bolt11.CURRENCIES[node.settings.network]
        content = bolt11.decode(invstring, check_signature=False, currency=currency)
    except Bolt11Error as error:
        raise RpcError(INVALID_PARAMS, f"Unparsable invoice '{invstring}': {error}") from error
    if content.description is None:
        raise RpcError(INVALID_PARAMS, "Missing description in invoice")
    if not content.expiry:
        raise RpcError(INVALID_PARAMS, "Missing expiry in invoice")
    if hashlib.sha256(preimage).digest() != content.payment_hash:
        raise RpcError(INVALID_PARAMS, "Incorrect preimage")
    _abort_on_expiry(node, content.expiry)
    if row := _find(node, "label", label):
        raise RpcError(LABEL_ALREADY_EXISTS, "Duplicate label", as_json(row))
    if _find(node, "payment_hash", content.payment_hash):
        node.abort("Error executing statement: UNIQUE constraint failed: invoices.payment_hash")
    return as_json(_store(node, content, label, preimage))


def signinvoice(node: "Node", invstring: str) -> Json:
    """Sign an invoice that the caller wrote, without its `d` if it has an `h`."""
    try:
        currency = bolt11.CURRENCIES[node.settings.network]
        content = bolt11.decode(invstring, check_signature=False, currency=currency)
    except Bolt11Error as error:
        raise RpcError(INVALID_PARAMS, f"Unparsable invoice '{invstring}': {error}") from error
    return {"bolt11": bolt11.encode(content, node.key)}


def delinvoice(node: "Node", label: str, status: str, desconly: bool) -> Json:
    """Remove an invoice, or its description."""
    _expire(node)
    row = _find(node, "label", label)
    if not row:
        raise RpcError(NOT_FOUND, "Unknown invoice")
    if row["status"] != status:
        message = f"Invoice status is {row['status']} not {status}"
        data = {"current_status": row["status"], "expected_status": status}
        raise RpcError(STATUS_UNEXPECTED, message, data)
    if not desconly:
        node.state.db.execute("DELETE FROM invoices WHERE id = ?", (row["id"],))
        details = {"status": row["status"], "label": row["label"], "bolt11": row["bolt11"]}
        wait.note_deleted(node.state, "invoices", details)
        return as_json(row)
    if row["description"] is None:
        raise RpcError(NO_DESCRIPTION, "Invoice description already removed")
    node.state.db.execute(
        "UPDATE invoices SET description = NULL, updated_index = ? WHERE id = ?",
        (node.state.next("invoice_updated_index"), row["id"]),
    )
    return {name: value for name, value in as_json(row).items() if name != "description"}


def listinvoices(
    node: "Node",
    label: str | None,
    invstring: str | None,
    payment_hash: bytes | None,
    offer_id: bytes | None,
    index: str | None,
    start: int,
    limit: int | None,
) -> Json:
    """List one invoice, all, or a page."""
    if sum(x is not None for x in (label, invstring, payment_hash, offer_id)) > 1:
        message = "Can only specify one of {label}, {invstring}, {payment_hash} or {offer_id}"
        raise RpcError(INVALID_PARAMS, message)
    if start and not index:
        raise RpcError(INVALID_PARAMS, "Can only specify {start} with {index}")
    if limit is not None and not index:
        raise RpcError(INVALID_PARAMS, "Can only specify {limit} with {index}")
    if invstring is not None:
        try:
            payment_hash = bolt11.decode(invstring).payment_hash
        except Bolt11Error as error:
            raise RpcError(INVALID_PARAMS, "Invalid invstring") from error
    _expire(node)
    if label is not None or payment_hash is not None:
        column, value = ("label", label) if label is not None else ("payment_hash", payment_hash)
        row = _find(node, column, value)
        return {"invoices": [as_json(row)] if row else []}
    column = "updated_index" if index == "updated" else "id"
    query = f"SELECT * FROM invoices WHERE {column} >= ? ORDER BY {column} LIMIT ?"
    rows = node.state.db.execute(query, (start, -1 if limit is None else limit))
    return {"invoices": [as_json(row) for row in rows if offer_id is None]}


def waitanyinvoice(node: "Node", lastpay_index: int, timeout: int | None) -> Json:
    """Return the first invoice paid after `lastpay_index`; wait for one if there is none yet.

    As in lightningd, a waiting call gets the next paid invoice, whatever its pay_index.
    """
    after = lastpay_index - params.U64 if lastpay_index >= params.U64 // 2 else lastpay_index
    query = "SELECT * FROM invoices WHERE pay_index > ? ORDER BY pay_index LIMIT 1"
    row = node.state.db.execute(query, (after,)).fetchone()
    return as_json(row) if row else _wait_for_payment(node, timeout)


async def _wait_for_payment(node: "Node", seconds: int | None) -> Json:
    paid = asyncio.get_running_loop().create_future()
    node.invoice_waiters.add(paid)
    try:
        return await asyncio.wait_for(paid, seconds)
    except TimeoutError:
        message = "Timed out while waiting for invoice to be paid"
        raise RpcError(WAIT_TIMED_OUT, message) from None
    finally:
        node.invoice_waiters.discard(paid)


def pay(node: "Node", bolt11: str | None, label: str | None, amount_msat: int | None) -> sqlite3.Row:
    """Mark an unpaid invoice as paid and notify the plugins (dev-pay)."""
    _expire(node)
    row = _find(node, "label", label) if label is not None else _find(node, "bolt11", bolt11)
    if not row:
        raise RpcError(NOT_FOUND, "Unknown invoice")
    if row["status"] != "unpaid":
        raise RpcError(STATUS_UNEXPECTED, f"Invoice status is {row['status']} not unpaid")
    amount = amount_msat or int(row["amount_msat"] or 0)
    if not amount:
        raise RpcError(INVALID_PARAMS, "missing required parameter: amount_msat")
    node.state.db.execute(
        "UPDATE invoices SET status = 'paid', pay_index = ?, paid_at = ?,"
        " amount_received_msat = ?, updated_index = ? WHERE id = ?",
        (
            node.state.next("pay_index"),
            int(time.time()),
            str(amount),
            node.state.next("invoice_updated_index"),
            row["id"],
        ),
    )
    event = {"label": row["label"], "preimage": row["preimage"].hex(), "msat": amount}
    node.log.add("info", "lightningd", f"Resolved invoice '{row['label']}' with amount {amount}msat")
    node.plugins.notify("invoice_payment", event)
    row = _found(node, "id", row["id"])
    for waiter in node.invoice_waiters:
        if not waiter.done():
            waiter.set_result(as_json(row))
    return row


def as_json(row: sqlite3.Row) -> Json:
    """Return an invoice as listinvoices shows it."""
    fields: dict[str, Json] = {
        "label": row["label"],
        "bolt11": row["bolt11"],
        "bolt12": row["bolt12"],
        "payment_hash": row["payment_hash"].hex(),
        "amount_msat": row["amount_msat"] and int(row["amount_msat"]),
        "status": row["status"],
    }
    if row["status"] == "paid":
        fields["pay_index"] = row["pay_index"]
        fields["amount_received_msat"] = int(row["amount_received_msat"])
        fields["paid_at"] = row["paid_at"]
        fields["payment_preimage"] = row["preimage"].hex()
    fields["description"] = row["description"]
    fields["expires_at"] = row["expires_at"]
    fields["local_offer_id"] = row["local_offer_id"] and row["local_offer_id"].hex()
    fields["created_index"] = row["id"]
    fields["updated_index"] = row["updated_index"]
    return {name: value for name, value in fields.items() if value is not None}


def _escaped(label: str) -> bytes:
    return dumps(label).strip()[1:-1]


def _abort_on_expiry(node: "Node", expiry: int) -> None:
    if expiry >= MAX_EXPIRY:
        node.abort("FATAL SIGNAL 6 (an expiry that fits no BOLT11 field)")


def _find(node: "Node", column: str, value: Json) -> sqlite3.Row | None:
    query = f"SELECT * FROM invoices WHERE {column} = ?"
    row: sqlite3.Row | None = node.state.db.execute(query, (value,)).fetchone()
    return row


def _found(node: "Node", column: str, value: Json) -> sqlite3.Row:
    row = _find(node, column, value)
    assert row
    return row


def _store(node: "Node", content: Bolt11, label: str, preimage: bytes) -> sqlite3.Row:
    amount = content.amount_msat
    node.state.db.execute(
        "INSERT INTO invoices (label, payment_hash, preimage, bolt11, amount_msat, description,"
        " expires_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            label,
            content.payment_hash,
            preimage,
            bolt11.encode(content, node.key),
            None if amount is None else str(amount),
            content.description,
            int(time.time()) + content.expiry,
        ),
    )
    event: Json = {"preimage": preimage.hex(), "label": label}
    if amount is not None:
        event["msat"] = amount
    node.plugins.notify("invoice_creation", event)
    return _found(node, "label", label)


def _expire(node: "Node") -> None:
    """Do what lightningd's expiry timer does, as a transaction of its own."""
    query = "SELECT id FROM invoices WHERE status = 'unpaid' AND expires_at <= ?"
    for row in node.state.db.execute(query, (int(time.time()),)).fetchall():
        node.state.db.execute(
            "UPDATE invoices SET status = 'expired', updated_index = ? WHERE id = ?",
            (node.state.next("invoice_updated_index"), row["id"]),
        )
    node.state.commit("(expiry timer)")


COMMANDS = {
    "invoice": (
        invoice,
        Param("amount_msat", params.msat_or_any),
        Param("label", params.label),
        Param("description", params.text),
        opt("expiry", params.u64, WEEK),
        opt("fallbacks", params.array),
        opt("preimage", params.preimage),
        opt("exposeprivatechannels", params.raw),
        opt("cltv", params.u32, 0),
        opt("deschashonly", params.boolean, False),
        opt("dev-routes", params.array),
    ),
    "signinvoice": (signinvoice, Param("invstring", params.string)),
    "createinvoice": (
        createinvoice,
        Param("invstring", params.invstring),
        Param("label", params.label),
        Param("preimage", params.preimage),
    ),
    "delinvoice": (
        delinvoice,
        Param("label", params.label),
        Param("status", params.string),
        opt("desconly", params.boolean, False),
    ),
    "listinvoices": (
        listinvoices,
        opt("label", params.label),
        opt("invstring", params.invstring),
        opt("payment_hash", params.hash32),
        opt("offer_id", params.hash32),
        opt("index", params.index),
        opt("start", params.u64, 0),
        opt("limit", params.u32),
    ),
    "waitanyinvoice": (
        waitanyinvoice,
        opt("lastpay_index", params.u64, 0),
        opt("timeout", params.u64),
    ),
}
