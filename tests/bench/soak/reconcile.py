"""Compare the node's books with the clients' at the end: invoices, records, notifications."""

import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.bench.soak.books import Asked, Books, Trouble
from tests.bench.soak.misfortunes import RESTARTS_PLUGIN, Misfortune
from tests.support.app import NOTIFICATION_KINDS
from tests.support.channel import Json

# For bare hashes: one for each power of two, every five minutes, swept every hour and at a start.
MAX_TEMPLATES = 28 * 13
NOTIFICATION_TIMEOUT_S = 60.0

_LABEL = re.compile(r"nwc:([0-9a-f]{16}):([0-9a-f]{64})")
_TEMPLATE = re.compile(r"nwc:template:\d+")


@dataclass(frozen=True, slots=True)
class NodeBooks:
    """The invoices and records on the node.

    Attributes:
        invoices: invoices of requests, by (connection id, request id).
        templates: templates for bare hashes.
        strange: other invoices, or invoices with the same label.
        hashes: description hashes, by payment hash.
        records: (connection id, request id) of the records of invoices.
        pending: keys of notifications that are stored for later.

    """

    invoices: dict[tuple[str, str], Json]
    templates: list[Json]
    strange: list[Json]
    hashes: dict[str, str]
    records: set[tuple[str, str]]
    pending: list[Any]

    @property
    def paid(self) -> dict[tuple[str, str], Json]:
        """The paid invoices."""
        return {key: made for key, made in self.invoices.items() if made["status"] == "paid"}


def read_node(rpc: Any, with_hashes: bool = True) -> NodeBooks:
    """Return the node's books; this blocks."""
    invoices: dict[tuple[str, str], Json] = {}
    templates, strange = [], []
    for invoice in rpc.listinvoices()["invoices"]:
        label = _LABEL.fullmatch(invoice["label"])
        if label and (label[1], label[2]) not in invoices:
            invoices[label[1], label[2]] = invoice
        elif _TEMPLATE.fullmatch(invoice["label"]):
            templates.append(invoice)
        else:
            strange.append(invoice)
    hashes = {}
    for invoice in invoices.values() if with_hashes else ():
        decoded = rpc.call("decode", {"string": invoice["bolt11"]})
        hashes[invoice["payment_hash"]] = decoded.get("description_hash", "")
    records = {
        (entry["key"][2], request["key"][3])
        for entry in rpc.listdatastore(["nwc", "invoices"])["datastore"]
        for request in rpc.listdatastore(entry["key"])["datastore"]
    }
    stored = ["nwc", "notifications", "pending"]
    pending = [
        entry["key"]
        for client in rpc.listdatastore(stored)["datastore"]
        for entry in rpc.listdatastore(client["key"])["datastore"]
    ]
    return NodeBooks(invoices, templates, strange, hashes, records, pending)


def wait_until_notified(rpc: Any, books: Books) -> None:
    """Wait for missing notifications, NOTIFICATION_TIMEOUT_S at most; `findings` reports the rest."""
    deadline = time.monotonic() + NOTIFICATION_TIMEOUT_S
    while time.monotonic() < deadline:
        node = read_node(rpc, with_hashes=False)
        if not node.pending and not any(_missing_kinds(books, made) for made in node.paid.values()):
            return
        time.sleep(1)


def findings(books: Books, node: NodeBooks) -> Iterator[str]:
    """Yield every difference between the node's books and the clients'."""
    yield from _invoices(books, node)
    yield from _others(books, node)
    yield from _payments(books, node)


def unknown_outcome(books: Books, node: NodeBooks) -> list[tuple[str, str]]:
    """Return the invoices whose request got no result: no answer, or an error when the node stopped."""
    return [key for key in node.invoices if key[1] in books.asked and not books.asked[key[1]].results]


def _invoices(books: Books, node: NodeBooks) -> Iterator[str]:
    for event_id, asked in books.asked.items():
        made = node.invoices.get((asked.connection_id, event_id))
        if asked.results and made is None:
            yield f"{asked}: its invoice is not on the node"
        elif asked.results and made is not None:
            yield from _differences(asked, made, node.hashes[made["payment_hash"]])
    for connection_id, event_id in node.invoices:
        asked_for = books.asked.get(event_id)
        if asked_for is None or asked_for.connection_id != connection_id:
            yield f"no request for invoice nwc:{connection_id}:{event_id}"
        elif asked_for.wanted.method != "make_invoice" or asked_for.wanted.outcome != "ok":
            yield f"{asked_for}: the node has an invoice for it"
    counts = Counter(made["payment_hash"] for made in node.invoices.values())
    yield from (f"{count} invoices with payment hash {h}" for h, count in counts.items() if count > 1)


def _differences(asked: Asked, made: Json, description_hash: str) -> Iterator[str]:
    result = asked.results[-1]
    if result["invoice"] != made["bolt11"] or result["payment_hash"] != made["payment_hash"]:
        yield f"{asked}: its answer has another invoice than the node"
    if asked.wanted.params["amount"] != made.get("amount_msat", 0):
        yield f"{asked}: amount {made.get('amount_msat')} instead of {asked.wanted.params['amount']}"
    wanted_hash = asked.wanted.params.get("description_hash")
    if wanted_hash and wanted_hash != description_hash:
        yield f"{asked}: description_hash {description_hash} instead of {wanted_hash}"
    if result["metadata"] != asked.wanted.params.get("metadata", {}):
        yield f"{asked}: its answer has other metadata: {result['metadata']}"


def _others(books: Books, node: NodeBooks) -> Iterator[str]:
    for invoice in node.strange:
        yield f"an unexplained invoice: {invoice['label']}"
    if len(node.templates) > MAX_TEMPLATES:
        yield f"{len(node.templates)} templates; at most {MAX_TEMPLATES} are allowed"
    yield from (f"template {t['label']} is paid" for t in node.templates if t["status"] == "paid")
    for connection_id, event_id in node.records - set(node.invoices):
        # An interrupted request may leave a record, which the plugin sweeps later.
        if event_id not in books.asked or books.asked[event_id].results:
            yield f"a record without an invoice: {connection_id} {event_id}"
    yield from (f"a stored notification was never sent: {key}" for key in node.pending)


def _payments(books: Books, node: NodeBooks) -> Iterator[str]:
    for key, made in node.paid.items():
        missing = _missing_kinds(books, made)
        if missing and not _may_be_lost(books, made):
            yield f"payment of {key[1][:8]}: no notification of kind {missing}"
        for kind in NOTIFICATION_KINDS:
            times = books.notified.get((made["payment_hash"], kind), [])
            restarts = books.during(made["paid_at"] - 1, max(times, default=0), *RESTARTS_PLUGIN)
            if len(times) > 1 + min(1, len(restarts)):
                yield f"payment of {key[1][:8]}: {len(times)} notifications of kind {kind}"


def _missing_kinds(books: Books, made: Json) -> list[int]:
    return [kind for kind in NOTIFICATION_KINDS if (made["payment_hash"], kind) not in books.notified]


def _may_be_lost(books: Books, made: Json) -> bool:
    """Return True if both relays may have died with a notification that they had accepted."""
    deaths: list[Trouble] = books.during(
        made["paid_at"] - 1, made["paid_at"] + 5, Misfortune.BOTH_RELAYS
    )
    return bool(deaths)
