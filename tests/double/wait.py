"""The `wait` command, after lightningd/wait.c: counters that only rise, and calls that wait for one."""

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.double import params
from tests.double.jsonio import Json, token
from tests.double.params import BadParam, Param
from tests.double.state import State

if TYPE_CHECKING:
    from tests.double.node import Node

# The tables of subsystems. The other subsystems never change here.
TABLES = {"invoices": "invoices", "sendpays": "sendpays"}
SUBSYSTEMS = (*TABLES, "forwards", "htlcs", "chainmoves", "channelmoves", "networkevents")
VARIABLES = {"invoices": "invoice", "sendpays": "sendpay"}


@dataclass(frozen=True)
class Waiter:
    """A call that waits until an index has reached a value."""

    subsystem: str
    index: str
    next_value: int
    answer: asyncio.Future[Json]


class Waiters:
    """All waiting calls. They are checked after each transaction."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._waiters: list[Waiter] = []
        state.after_commit = self._wake

    def __len__(self) -> int:
        return len(self._waiters)

    async def wait(self, subsystem: str, index: str, next_value: int) -> Json:
        """Wait until the index reaches `next_value`, and return the answer."""
        answer = asyncio.get_running_loop().create_future()
        self._waiters.append(Waiter(subsystem, index, next_value, answer))
        return await answer

    def _wake(self) -> None:
        self._waiters = [waiter for waiter in self._waiters if not self._is_done(waiter)]

    def _is_done(self, waiter: Waiter) -> bool:
        if waiter.answer.done():
            return True
        value = current(self._state, waiter.subsystem, waiter.index)
        if value < waiter.next_value:
            return False
        details = _details(self._state, waiter.subsystem, waiter.index, value)
        answer = {"subsystem": waiter.subsystem, waiter.index: value, waiter.subsystem: details}
        # `details` is deprecated; lightningd shows it unless deprecated APIs are disallowed.
        waiter.answer.set_result({**answer, "details": details})
        return True


def wait(node: "Node", subsystem: str, indexname: str, nextvalue: int) -> Json:
    """Answer when an index has reached `nextvalue`; at once if it already has."""
    value = current(node.state, subsystem, indexname)
    if value >= nextvalue:
        return {"subsystem": subsystem, indexname: value}
    return node.waiters.wait(subsystem, indexname, nextvalue)


def current(state: State, subsystem: str, index: str) -> int:
    """Return the current value of an index."""
    if subsystem not in TABLES:
        return 0
    if index != "created":
        return int(state.get(f"{VARIABLES[subsystem]}_{index}_index") or 0)
    query = "SELECT seq FROM sqlite_sequence WHERE name = ?"
    row = state.db.execute(query, (TABLES[subsystem],)).fetchone()
    return row["seq"] if row else 0


def note_deleted(state: State, subsystem: str, details: Json) -> None:
    """Count a deleted row, and store its details for the answers of waiters."""
    name = f"{VARIABLES[subsystem]}_deleted"
    state.next(f"{name}_index")
    state.put(f"{name}_details", json.dumps(details))


def _details(state: State, subsystem: str, index: str, value: int) -> Json:
    if subsystem not in TABLES:
        return {}
    if index == "deleted":
        return json.loads(str(state.get(f"{VARIABLES[subsystem]}_deleted_details") or "{}"))
    column = "id" if index == "created" else "updated_index"
    query = f"SELECT * FROM {TABLES[subsystem]} WHERE {column} = ?"
    row = state.db.execute(query, (value,)).fetchone()
    if not row:
        return {}
    if subsystem == "invoices":
        details = {"status": row["status"], "label": row["label"]}
        return details if index == "updated" else {**details, "bolt11": row["bolt11"]}
    numbers = {"partid": row["partid"], "groupid": row["groupid"]}
    return {"status": row["status"], **numbers, "payment_hash": row["payment_hash"].hex()}


def _subsystem(name: str, value: Json) -> str:
    if value not in SUBSYSTEMS:
        raise BadParam(name, "unknown subsystem", value)
    return token(value)


COMMANDS = {
    "wait": (
        wait,
        Param("subsystem", _subsystem),
        Param("indexname", params.index),
        Param("nextvalue", params.u64),
    )
}
