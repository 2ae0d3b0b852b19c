"""The node's books against the clients', at the end: every invoice, every record, every payment told."""

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

# Of bare hashes: one for each power of two, every five minutes, swept every hour and at a start.
MAX_TEMPLATES = 28 * 13
TOLD_TIMEOUT_S = 60.0

_LABEL = re.compile(r"nwc:([0-9a-f]{16}):([0-9a-f]{64})")
_TEMPLATE = re.compile(r"nwc:template:\d+")


@dataclass(frozen=True, slots=True)
class NodeBooks:
    """What the node has.

    Attributes:
        invoices: made for requests, by (connection id, request id).
        templates: of bare hashes.
        strange: invoices that are neither, or share a label.
        hashes: description hashes, by payment hash.
        records: (connection id, request id) of records beside invoices.
        pending: notifications that are put aside.

    """

    invoices: dict[tuple[str, str], Json]
    templates: list[Json]
    strange: list[Json]
    hashes: dict[str, str]
    records: set[tuple[str, str]]
    pending: list[Any]

    @property
    def paid(self) -> dict[tuple[str, str], Json]:
        """The invoices that are paid."""
        return {key: made for key, made in self.invoices.items() if made["status"] == "paid"}


def read_node(rpc: Any, with_hashes: bool = True) -> NodeBooks:
    """Read the node's books; blocks."""
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
    put_aside = ["nwc", "notifications", "pending"]
    pending = [
        entry["key"]
        for client in rpc.listdatastore(put_aside)["datastore"]
        for entry in rpc.listdatastore(client["key"])["datastore"]
    ]
    return NodeBooks(invoices, templates, strange, hashes, records, pending)


def wait_until_told(rpc: Any, books: Books) -> None:
    """Wait for notifications that are still on their way; what is missing then is found later."""
    deadline = time.monotonic() + TOLD_TIMEOUT_S
    while time.monotonic() < deadline:
        node = read_node(rpc, with_hashes=False)
        if not node.pending and not any(_untold_kinds(books, made) for made in node.paid.values()):
            return
        time.sleep(1)


def findings(books: Books, node: NodeBooks) -> Iterator[str]:
    """Say what of the node does not agree with what the clients were told."""
    yield from _invoices(books, node)
    yield from _others(books, node)
    yield from _payments(books, node)


def unknown_outcome(books: Books, node: NodeBooks) -> list[tuple[str, str]]:
    """Return the invoices whose request was answered with an error when the node stopped, or never."""
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
            yield f"nobody asked for invoice nwc:{connection_id}:{event_id}"
        elif asked_for.wanted.method != "make_invoice" or asked_for.wanted.outcome != "ok":
            yield f"{asked_for}: there is an invoice for it"
    counts = Counter(made["payment_hash"] for made in node.invoices.values())
    yield from (f"{count} invoices with payment hash {h}" for h, count in counts.items() if count > 1)


def _differences(asked: Asked, made: Json, description_hash: str) -> Iterator[str]:
    result = asked.results[-1]
    if result["invoice"] != made["bolt11"] or result["payment_hash"] != made["payment_hash"]:
        yield f"{asked}: was told another invoice than the node has"
    if asked.wanted.params["amount"] != made.get("amount_msat", 0):
        yield f"{asked}: amount {made.get('amount_msat')} instead of {asked.wanted.params['amount']}"
    wanted_hash = asked.wanted.params.get("description_hash")
    if wanted_hash and wanted_hash != description_hash:
        yield f"{asked}: description_hash {description_hash} instead of {wanted_hash}"
    if result["metadata"] != asked.wanted.params.get("metadata", {}):
        yield f"{asked}: other metadata: {result['metadata']}"


def _others(books: Books, node: NodeBooks) -> Iterator[str]:
    for invoice in node.strange:
        yield f"an invoice nobody can explain: {invoice['label']}"
    if len(node.templates) > MAX_TEMPLATES:
        yield f"{len(node.templates)} templates; at most {MAX_TEMPLATES}"
    yield from (f"template {t['label']} is paid" for t in node.templates if t["status"] == "paid")
    for connection_id, event_id in node.records - set(node.invoices):
        # One may be there where a request was cut off for good; the plugin sweeps it in time.
        if event_id not in books.asked or books.asked[event_id].results:
            yield f"a record without an invoice: {connection_id} {event_id}"
    yield from (f"never told: {key}" for key in node.pending)


def _payments(books: Books, node: NodeBooks) -> Iterator[str]:
    for key, made in node.paid.items():
        untold = _untold_kinds(books, made)
        if untold and not _may_be_swallowed(books, made):
            yield f"payment of {key[1][:8]}: not told in kind {untold}"
        for kind in NOTIFICATION_KINDS:
            told = books.told.get((made["payment_hash"], kind), [])
            lives = books.during(made["paid_at"] - 1, max(told, default=0), *RESTARTS_PLUGIN)
            if len(told) > 1 + min(1, len(lives)):
                yield f"payment of {key[1][:8]}: told {len(told)} times in kind {kind}"


def _untold_kinds(books: Books, made: Json) -> list[int]:
    return [kind for kind in NOTIFICATION_KINDS if (made["payment_hash"], kind) not in books.told]


def _may_be_swallowed(books: Books, made: Json) -> bool:
    """A relay that has taken a notification may die before it has passed it on, and so may both."""
    ends: list[Trouble] = books.during(made["paid_at"] - 1, made["paid_at"] + 5, Misfortune.BOTH_RELAYS)
    return bool(ends)
