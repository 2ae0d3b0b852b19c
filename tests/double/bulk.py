"""Invoices and payments by the hundred thousand, and BOLT12 invoices: well-formed, but not signed."""

import hashlib
import secrets
import time
from functools import reduce
from operator import xor
from typing import TYPE_CHECKING

from pyln.proto.bech32 import CHARSET, bech32_decode, bech32_polymod

from tests.double import bolt11, bolt12, invoices
from tests.double.bolt11 import Bolt11
from tests.double.jsonio import Json

if TYPE_CHECKING:
    from tests.double.node import Node

_TIMESTAMP = range(7)
# After the timestamp and the payment secret (header and 52 words) comes the header of `p`.
_HASH = range(7 + 55 + 3, 7 + 55 + 3 + 52)
_CHECKSUM = 6


class Template:
    """An invoice whose timestamp and payment hash can be replaced in some microseconds.

    A bech32 checksum is linear, so the contribution of each word at each position is computed once.
    """

    def __init__(self, invoice: str) -> None:
        hrp, words = bech32_decode(invoice)
        changing = (*_TIMESTAMP, *_HASH)
        self._words = [0 if index in changing else word for index, word in enumerate(words)]
        self._prefix = hrp + "1"
        spread = [*(ord(c) >> 5 for c in hrp), 0, *(ord(c) & 31 for c in hrp)]
        zeros = [0] * (len(words) + _CHECKSUM)
        self._base = bech32_polymod(bytes([*spread, *self._words, *zeros[:_CHECKSUM]])) ^ 1
        empty = bech32_polymod(bytes([*[0] * len(spread), *zeros]))
        self._parts: dict[tuple[int, int], int] = {}
        for index in changing:
            bits = []
            for bit in range(5):
                zeros[index] = 1 << bit
                bits.append(bech32_polymod(bytes([*[0] * len(spread), *zeros])) ^ empty)
            zeros[index] = 0
            for word in range(32):
                parts = (part for bit, part in enumerate(bits) if word >> bit & 1)
                self._parts[index, word] = reduce(xor, parts, 0)

    def invoice(self, created_at: int, payment_hash: bytes) -> str:
        """Return the invoice with this timestamp (Unix seconds) and payment hash."""
        words, checksum, parts = self._words.copy(), self._base, self._parts
        hash_words = int.from_bytes(payment_hash, "big") << 4
        values = [
            *((index, created_at >> 5 * (6 - i) & 31) for i, index in enumerate(_TIMESTAMP)),
            *((index, hash_words >> 5 * (51 - i) & 31) for i, index in enumerate(_HASH)),
        ]
        for index, word in values:
            words[index] = word
            checksum ^= parts[index, word]
        words += [checksum >> 5 * (5 - i) & 31 for i in range(_CHECKSUM)]
        return self._prefix + "".join([CHARSET[word] for word in words])


def dev_invoices(
    node: "Node",
    count: int,
    label_prefix: str,
    paid_every: int,
    created_at: int | None,
    step: int,
    amount_msat: int,
    expiry: int,
    description: str,
    digits: int,
) -> Json:
    """Make `count` invoices, one every `step` seconds; every `paid_every`th is paid (0: none).

    A label is the prefix and a number, padded with zeros to `digits` digits.
    """
    now = int(time.time())
    created_at = now - count * step if created_at is None else created_at
    template = Template(
        bolt11.encode(
            Bolt11(
                currency=bolt11.CURRENCIES[node.settings.network],
                created_at=0,
                payment_hash=bytes(32),
                payment_secret=bytes(32),
                amount_msat=amount_msat or None,
                description=description,
                expiry=expiry,
                features=invoices.FEATURES,
            ),
            node.key,
        )
    )
    pay_index = int(node.state.get("pay_index") or 0)
    updated_index = int(node.state.get("invoice_updated_index") or 0)
    rows = []
    for number in range(1, count + 1):
        label, at = f"{label_prefix}{number:0{digits}d}", created_at + (number - 1) * step
        preimage = hashlib.sha256(label.encode()).digest()
        payment_hash = hashlib.sha256(preimage).digest()
        paid = paid_every > 0 and number % paid_every == 0
        if paid:
            pay_index, updated_index = pay_index + 1, updated_index + 1
        rows.append(
            (
                label,
                payment_hash,
                preimage,
                template.invoice(at, payment_hash),
                str(amount_msat) if amount_msat else None,
                description,
                "paid" if paid else "unpaid",
                at + expiry,
                pay_index if paid else None,
                str(amount_msat or 1) if paid else None,
                at + 10 if paid else None,
                updated_index if paid else None,
            )
        )
    node.state.db.executemany(
        "INSERT INTO invoices (label, payment_hash, preimage, bolt11, amount_msat, description, status,"
        " expires_at, pay_index, amount_received_msat, paid_at, updated_index)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        rows,
    )
    node.state.put("pay_index", pay_index)
    node.state.put("invoice_updated_index", updated_index)
    return {"count": count, "first_created_at": created_at}


def dev_payments(node: "Node", count: int, created_at: int, step: int) -> Json:
    """Make `count` payments, one every `step` seconds.

    A quarter fails, and a tenth has a failed first attempt.
    """
    updated_index = int(node.state.get("sendpay_updated_index") or 0)
    rows = []
    for number in range(1, count + 1):
        preimage = hashlib.sha256(f"payment {created_at} {number}".encode()).digest()
        payment_hash, at = hashlib.sha256(preimage).digest(), created_at + (number - 1) * step
        statuses = ["failed"] if number % 4 == 0 else ["complete"]
        if number % 10 == 1:
            statuses.insert(0, "failed")
        for group, status in enumerate(statuses, start=1):
            updated_index += 1
            is_complete = status == "complete"
            rows.append(
                (
                    payment_hash,
                    group,
                    updated_index,
                    status,
                    at,
                    at + 5,
                    preimage if is_complete else None,
                )
            )
    node.state.db.executemany(
        "INSERT INTO sendpays (payment_hash, groupid, partid, updated_index, status, amount_msat,"
        " amount_sent_msat, created_at, completed_at, payment_preimage, description)"
        " VALUES (?, ?, 0, ?, ?, 21000, 21001, ?, ?, ?, 'made in bulk')",
        rows,
    )
    node.state.put("sendpay_updated_index", updated_index)
    return {"parts": len(rows)}


def dev_bolt12(
    node: "Node",
    label: str | None,
    amount_msat: int,
    description: str | None,
    created_at: int | None,
    expiry: int,
    preimage: bytes | None,
) -> Json:
    """Make an invoice as an invoice request for one of our offers does."""
    created_at = int(time.time()) if created_at is None else created_at
    preimage = preimage or secrets.token_bytes(32)
    payment_hash = hashlib.sha256(preimage).digest()
    offer_id = hashlib.sha256(b"offer" + node.key).digest()
    fields = {
        "offer_description": description or "",
        "invoice_created_at": created_at,
        "invoice_relative_expiry": expiry,
        "invoice_payment_hash": payment_hash.hex(),
        "invoice_amount_msat": amount_msat,
    }
    node.state.db.execute(
        "INSERT INTO invoices (label, payment_hash, preimage, bolt12, amount_msat, description,"
        " expires_at, local_offer_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            f"{offer_id.hex()}-02{secrets.token_hex(32)}-0" if label is None else label,
            payment_hash,
            preimage,
            bolt12.encode("lni", fields),
            str(amount_msat),
            description,
            created_at + expiry,
            offer_id,
        ),
    )
    query = "SELECT * FROM invoices WHERE payment_hash = ?"
    return invoices.as_json(node.state.db.execute(query, (payment_hash,)).fetchone())
