"""A lightningd that pays, in memory: commands, parts, the datastore, and all that can go wrong there.

The test decides what happens to a payment: a command waits until the test begins a part, completes or
fails one, answers, or hangs up. An answer can get lost before or after the call takes effect.
"""

import asyncio
import hashlib
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from nwc.cln.errors import NodeUnavailableError, RpcCallError, RpcCode
from nwc.cln.node import Bounds, DatastoreKey, Json, Node
from nwc.cln.rpc import Params

# How long after its time a command may still begin a part, if its error was not the end.
STRAGGLER_S = 30.0
SLOW_S = 3.0
HELP = {
    "pay": "pay invstring [amount_msat] [label] [riskfactor] [retry_for] [maxfee]",
    "keysend": "keysend destination amount_msat [label] [retry_for] [extratlvs] [maxfee]",
}


class Trouble(Enum):
    """What happens to a call."""

    NONE = "none"
    AWAY = "no answer, and nothing done"
    REFUSED = "an error, and nothing done"
    LOST = "done, but no answer"
    SLOW = "done after a while"


# The positional parameters of `pay`.
_PAY_PARAMETERS = (
    "invstring",
    "amount_msat",
    "label",
    "riskfactor",
    "maxfeepercent",
    "retry_for",
    "maxdelay",
    "exemptfee",
    "localinvreqid",
    "exclude",
    "maxfee",
)


def _named(params: Params) -> Json:
    named = params if isinstance(params, dict) else dict(zip(_PAY_PARAMETERS, params, strict=True))
    return {name: value for name, value in named.items() if value is not None}


def preimage_of(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def hash_of(preimage: str) -> str:
    return hashlib.sha256(bytes.fromhex(preimage)).hexdigest()


@dataclass(eq=False)
class Command:
    """A paying command that has reached lightningd."""

    label: str
    preimage: str
    amount_msat: int
    max_fee_msat: int
    given_at: float
    retry_for_s: float
    answer: "asyncio.Future[Json]"
    parts: list[Json] = field(default_factory=list)
    failed_at: float | None = None
    is_over: bool = False
    is_complete: bool = False

    @property
    def payment_hash(self) -> str:
        return hash_of(self.preimage)

    def active(self, *statuses: str) -> list[Json]:
        return [part for part in self.parts if part["status"] in (statuses or ("pending", "complete"))]

    def sent_msat(self, *statuses: str) -> int:
        return sum(part["amount_sent_msat"] for part in self.active(*statuses))

    def may_begin(self, now: float) -> bool:
        """Return True if a part can still begin."""
        if self.is_complete or self.is_over:
            return False
        return now <= self.given_at + self.retry_for_s + STRAGGLER_S

    def exposure_msat(self, now: float) -> int:
        """Return the most that the payment can have cost in the end."""
        if self.may_begin(now):
            return self.amount_msat + self.max_fee_msat
        return self.sent_msat()


class SimulatedLightningd(Node):
    """A Node whose calls end in this process.

    Attributes:
        datastore: text and generation of each record.
        commands: by label.
        troubles: what happens to the next calls.
        on_write: called with key, old and new text of a record.
        on_command: called with each paying command.
        calls: methods with their parameters, in order.
        fetched, proven: how many invoices were fetched for offers, and how many proofs made.
        gate: awaited before each call takes effect, to delay it.
        spendable_msat: what its channel can send.

    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.datastore: dict[DatastoreKey, tuple[str, int]] = {}
        self.commands: dict[str, Command] = {}
        self.troubles: deque[Trouble] = deque()
        self.on_write: Callable[[DatastoreKey, str | None, str | None], None] = lambda *_: None
        self.on_command: Callable[[Command], None] = lambda _: None
        self.calls: list[tuple[str, Json]] = []
        self.parts: list[Json] = []
        self.fetched = self.proven = 0
        self.gate: Callable[[str, Json], Awaitable[None]] | None = None
        self.spendable_msat = 10**19
        self._waiting: set[asyncio.Task[Any]] = set()

    @property
    def now(self) -> float:
        return self._loop.time()

    def called(self, method: str) -> list[Json]:
        """Return the parameters of all calls of a method."""
        return [given for name, given in self.calls if name == method]

    # Calls

    async def _call(self, method: str, params: Params, bounds: Bounds, name: str = "") -> Any:
        given = _named(params)
        self.calls.append((method, given))
        trouble = self.troubles.popleft() if self.troubles else Trouble.NONE
        # In tasks of its own, as in lightningd: the call goes on if its caller is cancelled.
        before = asyncio.ensure_future(self._on_the_way(method, given, trouble))
        self._waiting.add(before)
        before.add_done_callback(self._waiting.discard)
        work = asyncio.ensure_future(self._serve(before, method, given, trouble))
        work.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(work)

    async def _on_the_way(self, method: str, given: Json, trouble: Trouble) -> None:
        if self.gate is not None:
            await self.gate(method, given)
        await asyncio.sleep(SLOW_S if trouble is Trouble.SLOW else 0)

    async def _serve(
        self, before: "asyncio.Task[None]", method: str, given: Json, trouble: Trouble
    ) -> Any:
        await before
        if trouble is Trouble.AWAY:
            raise NodeUnavailableError(f"{method}: away")
        if trouble is Trouble.REFUSED:
            raise RpcCallError(method, -1, "refused")
        answer = getattr(self, f"_{method.replace('-', '_')}")(**given)
        if trouble is Trouble.LOST:
            raise NodeUnavailableError(f"{method}: lost")
        await asyncio.sleep(0)
        return await answer if isinstance(answer, asyncio.Future) else answer

    async def crash(self, lands: bool) -> None:
        """Cut the connection: the calls on their way to lightningd get there, or not."""
        waiting = list(self._waiting)
        if not lands:
            for task in waiting:
                task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await asyncio.sleep(0)

    def _help(self, command: str) -> Json:
        if command not in HELP:
            raise RpcCallError("help", RpcCode.METHOD_NOT_FOUND, "Unknown command")
        return {"help": [{"command": HELP[command]}]}

    def _datastore(self, key: list[str], string: str, mode: str, generation: int | None = None) -> Json:
        name, old = tuple(key), self.datastore.get(tuple(key))
        if mode == "must-create" and old is not None:
            raise RpcCallError("datastore", RpcCode.DATASTORE_UPDATE_ALREADY_EXISTS, "exists")
        if mode == "must-replace" and old is None:
            raise RpcCallError("datastore", RpcCode.DATASTORE_UPDATE_DOES_NOT_EXIST, "none")
        if old is not None and generation not in (None, old[1]):
            raise RpcCallError("datastore", RpcCode.DATASTORE_UPDATE_WRONG_GENERATION, "other")
        new_generation = 0 if old is None else old[1] + 1
        self.datastore[name] = (string, new_generation)
        self.on_write(name, old and old[0], string)
        return {"key": key, "generation": new_generation}

    def _listdatastore(self, key: list[str]) -> Json:
        listed: dict[DatastoreKey, Json] = {}
        for name, (text, generation) in sorted(self.datastore.items()):
            if name[: len(key)] != tuple(key):
                continue
            if len(name) > len(key) + 1:
                branch = name[: len(key) + 1]
                listed.setdefault(branch, {"key": list(branch)})
            else:
                listed[name] = {"key": list(name), "string": text, "generation": generation}
        return {"datastore": list(listed.values())}

    def _deldatastore(self, key: list[str], generation: int | None = None) -> Json:
        old = self.datastore.get(tuple(key))
        if old is None:
            raise RpcCallError("deldatastore", RpcCode.DATASTORE_DEL_DOES_NOT_EXIST, "none")
        if generation not in (None, old[1]):
            raise RpcCallError("deldatastore", 1201, "other generation")
        del self.datastore[tuple(key)]
        self.on_write(tuple(key), old[0], None)
        return {}

    def _wait(self, subsystem: str, indexname: str, nextvalue: int) -> Json:
        return {"subsystem": subsystem, indexname: len(self.parts)}

    def _listnodes(self, id: str) -> Json:
        return {"nodes": []}

    def _askrene_listreservations(self) -> Json:
        return {"reservations": []}

    def _listpeerchannels(self) -> Json:
        return {"channels": [{"state": "CHANNELD_NORMAL", "spendable_msat": self.spendable_msat}]}

    def _listsendpays(
        self,
        payment_hash: str | None = None,
        status: str | None = None,
        index: str | None = None,
        start: int = 0,
        limit: int = 2**31,
    ) -> Json:
        chosen = [
            dict(part)
            for part in self.parts
            if payment_hash in (None, part["payment_hash"])
            and status in (None, part["status"])
            and part["created_index"] >= start
        ]
        return {"payments": chosen[:limit]}

    def _pay(
        self, invstring: str, maxfee: int, retry_for: int, label: str, amount_msat: int = 0
    ) -> "asyncio.Future[Json]":
        # An invoice here is `<name>:<amount>`.
        name, amount = invstring.split(":")
        if any(part["payment_hash"] == hash_of(preimage_of(name)) for part in self._complete()):
            raise RpcCallError("pay", 219, "Already paid")
        return self._take(label, preimage_of(name), int(amount), maxfee, retry_for)

    def _fetchinvoice(self, offer: str, timeout: int, amount_msat: int) -> Json:
        # Each invoice for the offer `o` has a payment hash of its own, unlike those for any other.
        self.fetched += 1
        name = f"o{self.fetched}" if offer == "o" else offer
        return {"invoice": f"{name}:{amount_msat}"}

    def _createproof(self, invstring: str, include: list[str]) -> Json:
        payment_hash = hash_of(preimage_of(invstring.split(":")[0]))
        assert any(part["payment_hash"] == payment_hash for part in self._complete())
        self.proven += 1
        return {"proofs": [{"bolt12": f"lnp1{self.proven}"}]}

    def _keysend(
        self,
        destination: str,
        amount_msat: int,
        maxfee: int,
        retry_for: int,
        label: str,
        extratlvs: Json | None = None,
    ) -> "asyncio.Future[Json]":
        return self._take(label, preimage_of(label), amount_msat, maxfee, retry_for)

    def _complete(self) -> list[Json]:
        return [part for part in self.parts if part["status"] == "complete"]

    def _take(
        self, label: str, preimage: str, amount_msat: int, max_fee_msat: int, retry_for: int
    ) -> "asyncio.Future[Json]":
        assert label not in self.commands, "a request is paid twice"
        answer: asyncio.Future[Json] = self._loop.create_future()
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        command = Command(label, preimage, amount_msat, max_fee_msat, self.now, retry_for, answer)
        others = [c for c in self.commands.values() if c.payment_hash == command.payment_hash]
        assert not any(c.may_begin(self.now) or c.active() for c in others), "two at one invoice"
        self.commands[label] = command
        self.on_command(command)
        return answer

    # What lightningd does to a payment

    def begin_part(self, command: Command, tenths: int) -> None:
        """Send so many tenths of what is not sent yet."""
        if not command.may_begin(self.now):
            return
        left_msat = command.amount_msat - sum(part["amount_msat"] for part in command.active())
        if left_msat == 0:
            return
        amount_msat = max(1, left_msat * tenths // 10)
        fees_msat = command.sent_msat() - sum(part["amount_msat"] for part in command.active())
        fee_msat = (command.max_fee_msat - fees_msat) * tenths // 10
        part = {
            "created_index": len(self.parts) + 1,
            "payment_hash": command.payment_hash,
            "label": command.label,
            "status": "pending",
            "amount_msat": amount_msat,
            "amount_sent_msat": amount_msat + fee_msat,
        }
        command.parts.append(part)
        self.parts.append(part)

    def end_part(self, command: Command, number: int, complete: bool) -> None:
        """Complete or fail a pending part."""
        pending = command.active("pending")
        if not pending:
            return
        part = pending[number % len(pending)]
        part["status"] = "complete" if complete else "failed"
        if complete:
            part["payment_preimage"] = command.preimage
            command.is_complete = True

    def finish(self, command: Command) -> None:
        """Complete the whole payment, and let the command succeed."""
        self.begin_part(command, 10)
        for _ in command.active("pending"):
            self.end_part(command, 0, complete=True)
        if command.is_complete and not command.answer.done():
            command.answer.set_result(
                {
                    "payment_preimage": command.preimage,
                    "amount_msat": command.amount_msat,
                    "amount_sent_msat": command.sent_msat(),
                }
            )

    def fail(
        self, command: Command, code: int, *, is_over: bool = True, reason: str | None = None
    ) -> None:
        """Let the command fail. Parts may be pending, and may begin unless the error is the end."""
        if command.failed_at is None and not command.is_complete:
            command.failed_at = self.now
            command.is_over = is_over
            if not command.answer.done():
                failed = {"status": "failed", "failreason": reason}
                attempts = [failed, *([] if is_over else [{"status": "pending"}])]
                error = RpcCallError("pay", code, "failed", {"attempts": attempts})
                command.answer.set_exception(error)

    def hang_up(self, command: Command) -> None:
        """Lose the answer; the command goes on."""
        if not command.answer.done():
            command.answer.set_exception(NodeUnavailableError("pay: hung up"))
