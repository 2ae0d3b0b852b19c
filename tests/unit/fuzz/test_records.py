"""Records in the datastore that were changed by hand: the plugin starts, serves the connections that it
can, and spends nothing where it cannot read the record. HYPOTHESIS_PROFILE=long tries more examples.
"""

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from nwc import commands
from nwc.wallet.records import RecordError
from nwc.wallet.spending.ledger import parse_ledger
from tests.double import plans
from tests.unit.fuzz import strategies
from tests.unit.fuzz.way import Way, event_frame

# Errors that are logged for unreadable records, and calls with keys that the plugin did not make.
EXPECTED = (
    "DamagedRecordError",
    "RecordVersionError",
    "NewerRecordError",
    "UnreadableRecordError",
    "cannot spend: its ledger",
    "its connection cannot pay",
    "cannot pay: its record of lightningd's stops cannot be read",
    "is left alone, and must be settled or cancelled",
    "could not build the notification",
    "listdatastore: key",
    "deldatastore: key",
)
REQUESTS = [
    {"method": "get_info"},
    {"method": "get_balance"},
    {"method": "get_budget"},
    {"method": "list_transactions", "params": {"unpaid": True}},
    {"method": "make_invoice", "params": {"amount": 1000, "metadata": {"a": 1}}},
    {"method": "make_hold_invoice", "params": {"amount": 1000, "payment_hash": "PAYMENT_HASH"}},
    {"method": "pay_keysend", "params": {"amount": 1000, "pubkey": "02" + "ab" * 32}},
]

Row = tuple[bytes, bytes, int]
# Otherwise this warning would hide the failure.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")


class Records:
    """A plugin and its honest records, with which each example begins."""

    def __init__(self, way: Way) -> None:
        self.way = way
        self.honest = self._read()
        self.texts = {row[0].decode(): row[1].decode() for row in self.honest if row[0][:3] == b"nwc"}

    def _read(self) -> list[Row]:
        rows = self.way.double.state.db.execute("SELECT * FROM datastore ORDER BY key")
        return [(row["key"], row["data"], row["generation"]) for row in rows]

    def write(self, changed: dict[str, bytes | None]) -> None:
        """Restore the honest records, then write these changes; None deletes a record."""
        database = self.way.double.state.db
        rows: dict[bytes, tuple[bytes, int]] = {key: (data, number) for key, data, number in self.honest}
        for key, data in changed.items():
            rows.pop(key.encode(errors="replace"), None)
            if data is not None:
                rows[key.encode(errors="replace")] = (data, 7)
        database.execute("DELETE FROM datastore")
        database.executemany(
            "INSERT INTO datastore VALUES (?, ?, ?)", [(key, *rest) for key, rest in rows.items()]
        )
        database.commit()


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Records]:
    """A plugin that has stored invoices and payments of all kinds and a pending notification."""
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(Path.cwd())
        way = Way(tmp_path_factory.mktemp("records"))
        for payable in strategies.payables():
            plans.keep_preimage(way.double.state, payable.preimage)
        for client in way.clients.values():
            for asked in REQUESTS:
                text = json.dumps(asked).replace("PAYMENT_HASH", secrets.token_hex(32))
                way.ask(client, client.request(text))
        spends = way.clients["spends"]
        paying = {"method": "pay_invoice", "params": {"invoice": strategies.payables()[9].invoice}}
        way.ask(spends, spends.request(json.dumps(paying)))
        way.run(
            way.node.datastore_put(("nwc", "notifications", "pending", spends.keys.public_key, "1"), "1")
        )
        way.probes = False
        way.is_wrong = lambda line: not any(words in line for words in EXPECTED)
        yield Records(way)
        way.close()


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of a JSON value and of all values in it."""
    inner = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    return [path, *(found for key, item in inner for found in paths(item, (*path, key)))]


def replaced(value: Any, path: tuple[Any, ...], text: str) -> str:
    """Return a JSON value as text, with this text at the path; the value itself is changed too."""
    if not path:
        return text
    marker = "\N{SNOWMAN}" * 9
    holder = value
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = marker
    return json.dumps(value, ensure_ascii=False).replace(f'"{marker}"', text)


@st.composite
def changes(draw: st.DrawFn, texts: dict[str, str]) -> dict[str, bytes | None]:
    """Return changes to some records: to the text, to a field, or to the key; None deletes one."""
    changed: dict[str, bytes | None] = {}
    for _ in range(draw(st.integers(1, 3))):
        key = draw(st.sampled_from(sorted(texts)))
        text = texts[key]
        match draw(st.integers(0, 7)):
            case 0:
                changed[key] = draw(st.binary(max_size=40) | st.just(None))
            case 1:
                changed[key] = draw(strategies.damaged(st.just(text))).encode(errors="replace")
            case 2:
                changed[key] = draw(strategies.JSON_TEXTS).encode(errors="replace")
            case 3:  # the record moves to another key or to one below
                changed[key] = None
                part = draw(strategies.KEY_PARTS)
                changed[
                    draw(st.sampled_from([f"{key}\0{part}", f"{key[:-1]}{part}", f"nwc\0{part}"]))
                ] = text.encode()
            case _:
                value = json.loads(text)
                path = draw(st.sampled_from(paths(value)))
                changed[key] = replaced(
                    value, path, draw(strategies.JSON_TEXTS | strategies.NUMBER_TEXTS)
                ).encode(errors="replace")
    return changed


@settings(
    max_examples=settings().max_examples // 3,
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)
@given(st.data())
def test_records_changed_by_hand_break_and_spend_nothing(records: Records, data: st.DataObject) -> None:
    way = records.way
    changed = data.draw(changes(records.texts))
    records.write(changed)
    way.restart()
    for command in (commands.list_, commands.status):
        json.dumps(way.run(command(way.app)), ensure_ascii=False, allow_nan=False).encode()
    for name in ("spends", "owner"):
        client = way.clients[name]
        text = changed.get(f"nwc\0ledgers\0{client.keys.public_key}", b"")
        paid_before = len(way.double.keysends)
        for asked in REQUESTS:
            request = client.request(json.dumps(asked))
            for answer in way.deliver(event_frame(request)):
                client.open(answer, request, node_is_well=False)
        if text and is_unreadable(text):
            assert len(way.double.keysends) == paid_before
    if not any(key.startswith("nwc\0connections") for key in changed):
        way.check_honest_request()


def is_unreadable(ledger: bytes) -> bool:
    try:
        parse_ledger(ledger.decode())
    except (RecordError, UnicodeDecodeError):
        return True
    return False
