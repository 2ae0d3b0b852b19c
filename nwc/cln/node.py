"""The RPC calls that the plugin makes to lightningd, as coroutines.

Callers bound every value first: some numbers make lightningd abort. Commands that pay are in
nwc/cln/payer.py.
"""

import asyncio
import re
from dataclasses import dataclass
from typing import Any

from nwc.cln.channels import HeldHtlc, Sendable, held_htlcs, sendable, short_channel_ids
from nwc.cln.errors import NodeUnavailableError, RpcCallError, RpcCode, translates_malformed_answers
from nwc.cln.rpc import Params, RpcSocket, result_of


@dataclass(frozen=True, slots=True)
class Bounds:
    """The limits on calls of one RPC method. A method that hangs does not delay calls of the others.

    Attributes:
        slots: how many calls may be in flight at once; further calls wait for a free slot.
        timeout_s: seconds until an unanswered call is given up; None for never. This is longer than
            any app waits: lightningd still works on the call, and must not be given more meanwhile.

    """

    slots: int = 8
    timeout_s: float | None = 30.0


BOUNDS = {
    # lightningd asks other plugins, which can take long; apps can have many in flight.
    "invoice": Bounds(16, 60.0),
    "createinvoice": Bounds(16, 60.0),
    # The issuer of an offer can be slow, or never answer. There are as many slots as payments can be in
    # flight (nwc/wallet/spending/pending_payments.py), so that no payment waits for another's issuer.
    "fetchinvoice": Bounds(256, 40.0),
    # Can take seconds on a large node, when the plugin `sql` rebuilds its copy of the tables.
    "sql": Bounds(2, 60.0),
}
_OTHER = Bounds()

# 65 bytes in zbase32.
_SIGNATURE = re.compile("[ybndrfg8ejkmcpqxot1uwisza345h769]{104}")

Json = dict[str, Any]
DatastoreKey = tuple[str, ...]


class Node:
    """Lightningd behind its RPC socket.

    Every method raises RpcCallError for an error that lightningd answers, NodeUnavailableError when
    there is no answer.
    """

    def __init__(self, rpc_path: str) -> None:
        self._rpc = RpcSocket(rpc_path)
        self._slots: dict[str, asyncio.Semaphore] = {}

    def close(self) -> None:
        """Refuse further calls. Calls in flight end by themselves."""
        self._rpc.close()

    async def call(self, method: str, **params: Any) -> Json:
        """Call an RPC method and return its result; parameters that are None are left out.

        A call in flight keeps its slot until lightningd answers or the timeout is over, also if the
        caller is cancelled.
        """
        return await self._call(method, _given(params), BOUNDS.get(method, _OTHER))

    async def call_within(self, bounds: Bounds, method: str, params: Params, *, name: str = "") -> Json:
        """Call an RPC method as `call` does, with bounds of the caller's own.

        Args:
            bounds: for all calls of this method.
            method: the RPC method.
            params: by name, or by position; None leaves one out.
            name: part of the JSON-RPC id, by which lightningd names what it reserves for the call.

        """
        params = _given(params) if isinstance(params, dict) else params
        return await self._call(method, params, bounds, name)

    async def _call(self, method: str, params: Params, bounds: Bounds, name: str = "") -> Json:
        slots = self._slots.setdefault(method, asyncio.Semaphore(bounds.slots))
        await slots.acquire()
        try:
            outcome = self._rpc.send(method, params, timeout_s=bounds.timeout_s, name=name)
        except BaseException:
            slots.release()
            raise
        outcome.add_done_callback(lambda _: slots.release())
        answer = result_of(await asyncio.shield(outcome))
        if not isinstance(answer, dict):
            raise NodeUnavailableError(f"{method}: the result is not a JSON object")
        return answer

    # Invoices

    async def invoice(
        self,
        *,
        amount_msat: int,
        label: str,
        description: str,
        expiry: int,
        preimage: str | None = None,
        deschashonly: bool = False,
    ) -> Json:
        """Make an invoice and return the answer of `invoice`.

        Args:
            amount_msat: millisatoshi; 0 for any amount.
            label: unique on the node.
            description: at most 639 bytes of UTF-8 unless `deschashonly`.
            expiry: seconds from now.
            preimage: 64 hex digits; None lets lightningd choose.
            deschashonly: the invoice holds only the SHA-256 of the description (BOLT11 `h`).

        """
        return await self.call(
            "invoice",
            amount_msat=amount_msat or "any",
            label=label,
            description=description,
            expiry=expiry,
            preimage=preimage,
            deschashonly=deschashonly or None,
        )

    async def create_invoice(self, invstring: str, label: str, preimage: str) -> Json:
        """Have lightningd sign and keep a BOLT11 invoice; return the answer of `createinvoice`."""
        return await self.call("createinvoice", invstring=invstring, label=label, preimage=preimage)

    @translates_malformed_answers
    async def sign_invoice(self, invstring: str) -> str:
        """Return a BOLT11 invoice signed by the node, which lightningd does not keep."""
        return str((await self.call("signinvoice", invstring=invstring))["bolt11"])

    @translates_malformed_answers
    async def invoice_by_label(self, label: str) -> Json | None:
        """Return the invoice with this label as `listinvoices` shows it, or None."""
        found: list[Json] = (await self.call("listinvoices", label=label))["invoices"]
        return found[0] if found else None

    @translates_malformed_answers
    async def invoice_by_payment_hash(self, payment_hash: str) -> Json | None:
        """Return the invoice with this payment hash as `listinvoices` shows it, or None."""
        found: list[Json] = (await self.call("listinvoices", payment_hash=payment_hash))["invoices"]
        return found[0] if found else None

    @translates_malformed_answers
    async def payment_parts(self, payment_hash: str) -> list[Json]:
        """Return all parts and attempts of a payment as `listsendpays` shows them."""
        found: list[Json] = (await self.call("listsendpays", payment_hash=payment_hash))["payments"]
        return found

    @translates_malformed_answers
    async def wait_paid_invoice(self, last_pay_index: int) -> Json:
        """Wait for the invoice that is paid next after this `pay_index`, and return it. No timeout."""
        # Without a slot, since it can wait for ever.
        waiting = self._rpc.send("waitanyinvoice", {"lastpay_index": last_pay_index})
        return _paid(result_of(await waiting))

    async def paid_invoice(self, pay_index: int) -> Json | None:
        """Return the paid invoice with this `pay_index`, None if it was deleted."""
        paid = await self._next_paid(pay_index - 1)
        return paid if paid is not None and paid["pay_index"] == pay_index else None

    @translates_malformed_answers
    async def _next_paid(self, last_pay_index: int) -> Json | None:
        try:
            answer = await self.call("waitanyinvoice", lastpay_index=last_pay_index, timeout=0)
        except RpcCallError as error:
            if error.code != RpcCode.INVOICE_WAIT_TIMED_OUT:
                raise
            return None
        return _paid(answer)

    async def newest_pay_index(self) -> int:
        """Return the `pay_index` of the invoice that was paid last, 0 if none was paid.

        lightningd has no command for it, so this searches: some forty calls that look up one paid
        invoice each.
        """
        newest, step = 0, 1
        while (paid := await self._next_paid(newest + step - 1)) is not None:
            newest, step = paid["pay_index"], step * 2
        while step := step // 2:
            paid = await self._next_paid(newest + step - 1)
            newest = newest if paid is None else paid["pay_index"]
        return newest

    async def delete_invoice(self, label: str, status: str) -> None:
        """Delete the invoice with this label if it has this status: `unpaid`, `expired` or `paid`."""
        await self.call("delinvoice", label=label, status=status)

    # The node itself

    async def info(self) -> Json:
        """Return `getinfo`."""
        return await self.call("getinfo")

    @translates_malformed_answers
    async def sendable(self) -> Sendable:
        """Return how much the node can send over its channels now."""
        return sendable(await self._channels())

    @translates_malformed_answers
    async def short_channel_ids(self) -> frozenset[str]:
        """Return the short channel ids of the node's channels, with their aliases."""
        return short_channel_ids(await self._channels())

    @translates_malformed_answers
    async def held_htlcs(self, payment_hash: str) -> list[HeldHtlc]:
        """Return the incoming HTLCs of a payment that are neither fulfilled nor failed."""
        return held_htlcs(await self._channels(), payment_hash)

    async def _channels(self) -> list[Json]:
        channels: list[Json] = (await self.call("listpeerchannels"))["channels"]
        return channels

    @translates_malformed_answers
    async def log_level(self) -> str:
        """Return lightningd's option `log-level`, such as `info` or `debug:plugin`."""
        configs = (await self.call("listconfigs", config="log-level"))["configs"]
        return str(configs.get("log-level", {}).get("value_str", "info")).lower()

    @translates_malformed_answers
    async def sign_message(self, message: str) -> str:
        """Return the signature of a message by the node's key, the `zbase` of `signmessage`.

        Args:
            message: at most 65,535 bytes. What JSON escapes is signed with its escapes.

        """
        signed = (await self.call("signmessage", message=message))["zbase"]
        if not _SIGNATURE.fullmatch(signed):
            raise ValueError("not a signature of 65 bytes in zbase32")
        return str(signed)

    @translates_malformed_answers
    async def make_secret(self, purpose: str) -> bytes:
        """Return 32 secret bytes derived from the node's seed; the same ones for the same purpose."""
        answer = await self.call("makesecret", string=purpose)
        return bytes.fromhex(answer["secret"])

    # The datastore: small records in lightningd's database

    @translates_malformed_answers
    async def datastore_create(self, key: DatastoreKey, value: str) -> int:
        """Write a record that must not exist yet, and return its generation."""
        written = await self.call("datastore", key=list(key), string=value, mode="must-create")
        return int(written["generation"])

    @translates_malformed_answers
    async def datastore_replace(self, key: DatastoreKey, value: str, generation: int) -> int:
        """Replace the record of this generation, and return the new generation."""
        written = await self.call(
            "datastore", key=list(key), string=value, mode="must-replace", generation=generation
        )
        return int(written["generation"])

    async def datastore_put(self, key: DatastoreKey, value: str) -> None:
        """Create or replace a record."""
        await self.call("datastore", key=list(key), string=value, mode="create-or-replace")

    async def datastore_delete(self, key: DatastoreKey, generation: int | None = None) -> None:
        """Delete a record. It is no error if the record is gone already.

        Args:
            key: of the record.
            generation: the only generation that may be deleted; None for any.

        """
        try:
            await self.call("deldatastore", key=list(key), generation=generation)
        except RpcCallError as error:
            if error.code != RpcCode.DATASTORE_DEL_DOES_NOT_EXIST:
                raise

    @translates_malformed_answers
    async def datastore_entry(self, key: DatastoreKey) -> tuple[str, int] | None:
        """Return one record's text and generation, or None. A record that is not text has an empty text.

        lightningd lists the records below a key that has none itself.
        """
        listed: list[Json] = (await self.call("listdatastore", key=list(key)))["datastore"]
        found = ((e.get("string", ""), e["generation"]) for e in listed if e["key"] == list(key))
        return next(found, None)

    async def datastore_get(self, key: DatastoreKey) -> str | None:
        """Return the text of `datastore_entry`."""
        entry = await self.datastore_entry(key)
        return None if entry is None else entry[0]

    async def datastore_keys(self, key: DatastoreKey) -> list[str]:
        """Return the last part of every key directly below a key, with or without a record."""
        return list(await self.datastore_names(key))

    @translates_malformed_answers
    async def datastore_entries(self, key: DatastoreKey) -> dict[str, tuple[str, int]]:
        """Return the records directly below a key: the last part of each key, its text and generation.

        A damaged record that is not text is returned with an empty text, so that nobody misses it.
        """
        listed = (await self.call("listdatastore", key=list(key)))["datastore"]
        depth = len(key) + 1
        return {
            entry["key"][-1]: (entry.get("string", ""), entry["generation"])
            for entry in listed
            if len(entry["key"]) == depth and ("string" in entry or "hex" in entry)
        }

    @translates_malformed_answers
    async def datastore_usage(self, key: DatastoreKey) -> int:
        """Return the size of all records below a key with their keys, in bytes."""
        return int((await self.call("datastoreusage", key=list(key)))["datastoreusage"]["total_bytes"])

    async def datastore_children(self, key: DatastoreKey) -> dict[str, str]:
        """Return the texts of `datastore_entries`."""
        return {name: text for name, (text, _) in (await self.datastore_entries(key)).items()}

    @translates_malformed_answers
    async def datastore_names(self, key: DatastoreKey) -> dict[str, str | None]:
        """Return the last part of every key directly below a key, with the text of its record.

        The text is None if the record is one level deeper. Of such a record lightningd lists the name
        only, so its answer stays short however much is stored.
        """
        listed = (await self.call("listdatastore", key=list(key)))["datastore"]
        return {
            entry["key"][-1]: entry.get("string", "" if "hex" in entry else None)
            for entry in listed
            if len(entry["key"]) == len(key) + 1
        }


def _given(params: Json) -> Json:
    return {name: value for name, value in params.items() if value is not None}


def _paid(answer: Json) -> Json:
    """Return an answer of `waitanyinvoice`, whose `pay_index` must be a number."""
    return {**answer, "pay_index": int(answer["pay_index"])}
