"""The node, as the plugin sees it: the few RPC calls it makes, as coroutines.

What is sent is not checked here: it has been bounded before (lightningd aborts on some numbers).
"""

import asyncio
from dataclasses import dataclass
from typing import Any

from nwc.cln.channels import Sendable, sendable
from nwc.cln.errors import NodeUnavailableError, RpcCallError, RpcCode, reads_answer
from nwc.cln.rpc import Params, RpcSocket

PAYMENT_METHODS = frozenset({"xpay", "pay", "xkeysend", "keysend"})


@dataclass(frozen=True, slots=True)
class Bounds:
    """What calls of one method may take. Each has places of its own: one that hangs holds up no other.

    Attributes:
        places: how many calls may be under way at once; more wait for one to end.
        timeout_s: seconds without an answer until a call is given up; None for never. Longer than who
            asks for an app will wait: lightningd is at it all the same, and is not given more meanwhile.

    """

    places: int = 8
    timeout_s: float | None = 30.0


BOUNDS = {
    # Asks other plugins and may take its time; apps can have many under way.
    "invoice": Bounds(16, 60.0),
    "createinvoice": Bounds(16, 60.0),
    # Can take seconds on a large node, when its mirror of the tables is made anew.
    "sql": Bounds(2, 60.0),
    # Returns when its payment has ended: after seconds, or days where a payee holds it. `listsendpays`
    # tells how it ended, too, so no call is kept for longer than lightningd can make new attempts. There
    # are as many places as there can be payments in flight (nwc.wallet.spending.payments), so that no
    # payment waits for another.
    **dict.fromkeys(PAYMENT_METHODS, Bounds(256, 600.0)),
}
_OTHER = Bounds()

Json = dict[str, Any]
DatastoreKey = tuple[str, ...]


class Node:
    """Lightningd behind its RPC socket.

    Every method raises RpcCallError for an error that lightningd answers, NodeUnavailableError when
    there is no answer.
    """

    def __init__(self, rpc_path: str) -> None:
        self._rpc = RpcSocket(rpc_path)
        self._places: dict[str, asyncio.Semaphore] = {}

    def close(self) -> None:
        """Take no more calls. Those under way end by themselves."""
        self._rpc.close()

    async def call(self, method: str, **params: Any) -> Any:
        """Call an RPC method; parameters that are None are left out.

        A call that was begun keeps its place until lightningd answers or its time is over, also when
        nobody waits for it any more.
        """
        return await self._call(method, _given(params))

    async def call_named(self, method: str, name: str, **params: Any) -> Json:
        """Call an RPC method as `call` does; lightningd keeps this name with what it reserves."""
        return await self._call(method, _given(params), name)

    async def call_positional(self, method: str, params: list[Any]) -> Json:
        """Call an RPC method as `call` does, with parameters by position; None leaves one out."""
        return await self._call(method, params)

    async def _call(self, method: str, params: Params, name: str = "") -> Json:
        bounds = BOUNDS.get(method, _OTHER)
        places = self._places.get(method) or self._places.setdefault(
            method, asyncio.Semaphore(bounds.places)
        )
        call = self._rpc.new_call(method, params, name)
        await places.acquire()
        self._rpc.begin(call, bounds.timeout_s, places.release)
        answer = await call.result()
        if not isinstance(answer, dict):
            raise NodeUnavailableError(f"{method}: no JSON object")
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
        """Make an invoice.

        Args:
            amount_msat: millisatoshi; 0 for any amount.
            label: unique on the node.
            description: at most 639 bytes of UTF-8 unless `deschashonly`.
            expiry: seconds from now.
            preimage: 64 hex digits; None lets lightningd choose.
            deschashonly: the invoice holds only the SHA-256 of the description (BOLT11 `h`).

        """
        made: Json = await self.call(
            "invoice",
            amount_msat=amount_msat or "any",
            label=label,
            description=description,
            expiry=expiry,
            preimage=preimage,
            deschashonly=deschashonly or None,
        )
        return made

    async def create_invoice(self, invstring: str, label: str, preimage: str) -> Json:
        """Have lightningd sign and keep a BOLT11 invoice made elsewhere."""
        made: Json = await self.call(
            "createinvoice", invstring=invstring, label=label, preimage=preimage
        )
        return made

    @reads_answer
    async def invoice_by_label(self, label: str) -> Json | None:
        """Return the invoice with this label as `listinvoices` shows it, or None."""
        found: list[Json] = (await self.call("listinvoices", label=label))["invoices"]
        return found[0] if found else None

    @reads_answer
    async def invoice_by_payment_hash(self, payment_hash: str) -> Json | None:
        """Return the invoice with this payment hash as `listinvoices` shows it, or None."""
        found: list[Json] = (await self.call("listinvoices", payment_hash=payment_hash))["invoices"]
        return found[0] if found else None

    @reads_answer
    async def payment_parts(self, payment_hash: str) -> list[Json]:
        """Return all parts and attempts of a payment as `listsendpays` shows them."""
        found: list[Json] = (await self.call("listsendpays", payment_hash=payment_hash))["payments"]
        return found

    @reads_answer
    async def wait_paid_invoice(self, last_pay_index: int) -> Json:
        """Wait, for however long, until an invoice is paid after the one with this `pay_index`."""
        # It takes no place of the others, however long it waits.
        return _paid(await self._rpc.call("waitanyinvoice", {"lastpay_index": last_pay_index}))

    async def paid_invoice(self, pay_index: int) -> Json | None:
        """Return the paid invoice with this `pay_index`, None when it has been deleted."""
        paid = await self._next_paid(pay_index - 1)
        return paid if paid is not None and paid["pay_index"] == pay_index else None

    @reads_answer
    async def _next_paid(self, last_pay_index: int) -> Json | None:
        try:
            answer = await self.call("waitanyinvoice", lastpay_index=last_pay_index, timeout=0)
        except RpcCallError as error:
            if error.code != RpcCode.INVOICE_WAIT_TIMED_OUT:
                raise
            return None
        return _paid(answer)

    async def newest_pay_index(self) -> int:
        """Return the `pay_index` of the invoice paid last, 0 when there is none.

        Nothing tells it, so it is searched for: some forty calls that each look up one paid invoice.
        """
        newest, step = 0, 1
        while (paid := await self._next_paid(newest + step - 1)) is not None:
            newest, step = paid["pay_index"], step * 2
        while step := step // 2:
            paid = await self._next_paid(newest + step - 1)
            newest = newest if paid is None else paid["pay_index"]
        return newest

    async def delete_invoice(self, label: str, status: str) -> None:
        """Delete an invoice that has this status (`unpaid`, `expired` or `paid`)."""
        await self.call("delinvoice", label=label, status=status)

    # The node itself

    async def info(self) -> Json:
        """Return `getinfo`."""
        info: Json = await self.call("getinfo")
        return info

    @reads_answer
    async def sendable(self) -> Sendable:
        """Return what the node can send over its channels at this moment."""
        return sendable((await self.call("listpeerchannels"))["channels"])

    @reads_answer
    async def log_level(self) -> str:
        """Return lightningd's option `log-level`, such as `info` or `debug:plugin`."""
        configs = (await self.call("listconfigs", config="log-level"))["configs"]
        return str(configs.get("log-level", {}).get("value_str", "info")).lower()

    @reads_answer
    async def make_secret(self, purpose: str) -> bytes:
        """Derive 32 secret bytes from the node's seed for a purpose; always the same."""
        answer = await self.call("makesecret", string=purpose)
        return bytes.fromhex(answer["secret"])

    # The datastore: small records in the node's own database

    @reads_answer
    async def datastore_create(self, key: DatastoreKey, value: str) -> int:
        """Write a record that must not exist yet; returns its generation."""
        written = await self.call("datastore", key=list(key), string=value, mode="must-create")
        return int(written["generation"])

    @reads_answer
    async def datastore_replace(self, key: DatastoreKey, value: str, generation: int) -> int:
        """Write a record in the place of the one of this generation; returns the new generation."""
        written = await self.call(
            "datastore", key=list(key), string=value, mode="must-replace", generation=generation
        )
        return int(written["generation"])

    async def datastore_put(self, key: DatastoreKey, value: str) -> None:
        """Write a record, new or in the place of an older one."""
        await self.call("datastore", key=list(key), string=value, mode="create-or-replace")

    async def datastore_delete(self, key: DatastoreKey, generation: int | None = None) -> None:
        """Delete a record; one that is gone already is no error.

        Args:
            key: of the record.
            generation: the only generation that may be deleted; None for any.

        """
        try:
            await self.call("deldatastore", key=list(key), generation=generation)
        except RpcCallError as error:
            if error.code != RpcCode.DATASTORE_DEL_DOES_NOT_EXIST:
                raise

    @reads_answer
    async def datastore_entry(self, key: DatastoreKey) -> tuple[str, int] | None:
        """Return one record's text and generation, or None."""
        entry = await self._datastore_record(key)
        return None if entry is None else (entry.get("string", ""), entry["generation"])

    @reads_answer
    async def datastore_get(self, key: DatastoreKey) -> str | None:
        """Return one record's text, or None."""
        entry = await self._datastore_record(key)
        return None if entry is None else entry.get("string")

    async def _datastore_record(self, key: DatastoreKey) -> Json | None:
        """Return the record of exactly this key; where it has none, lightningd lists those below it."""
        listed: list[Json] = (await self.call("listdatastore", key=list(key)))["datastore"]
        return next((entry for entry in listed if entry["key"] == list(key)), None)

    @reads_answer
    async def datastore_keys(self, key: DatastoreKey) -> list[str]:
        """Return the last parts of all keys directly below a key, with or without a record."""
        listed = (await self.call("listdatastore", key=list(key)))["datastore"]
        return [entry["key"][-1] for entry in listed if len(entry["key"]) == len(key) + 1]

    @reads_answer
    async def datastore_entries(self, key: DatastoreKey) -> dict[str, tuple[str, int]]:
        """Return the records directly below a key: last part of their key, their text and generation.

        One that is no text (it is damaged, then) has an empty one: it is there all the same.
        """
        listed = (await self.call("listdatastore", key=list(key)))["datastore"]
        depth = len(key) + 1
        return {
            entry["key"][-1]: (entry.get("string", ""), entry["generation"])
            for entry in listed
            if len(entry["key"]) == depth and ("string" in entry or "hex" in entry)
        }

    @reads_answer
    async def datastore_usage(self, key: DatastoreKey) -> int:
        """Return how many bytes all records below a key have, with their keys."""
        return int((await self.call("datastoreusage", key=list(key)))["datastoreusage"]["total_bytes"])

    async def datastore_children(self, key: DatastoreKey) -> dict[str, str]:
        """Return the texts of `datastore_entries`."""
        return {name: text for name, (text, _) in (await self.datastore_entries(key)).items()}

    @reads_answer
    async def datastore_names(self, key: DatastoreKey) -> dict[str, str | None]:
        """Return the last parts of all keys directly below a key, each with the text of its record.

        The text is None where the record is one level deeper: of such a record lightningd lists the name
        alone, so that its answer stays short however much is stored.
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
    """Return an answer of `waitanyinvoice` that says which it is: by that all goes on."""
    return {**answer, "pay_index": int(answer["pay_index"])}
