"""A simulated lightningd that pays real invoices, with the handlers of the paying methods on it."""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

from nwc.cln.errors import RpcCallError, RpcCode
from nwc.cln.node import Json
from nwc.nip47.errors import Nip47Error
from nwc.nip47.params import Params
from nwc.wallet.context import Call, ChainTip, Handler, Wallet
from nwc.wallet.methods import pay_invoice, pay_keysend
from tests.double import decoding
from tests.double.bolt11 import Bolt11, encode
from tests.double.params import RpcError
from tests.unit.in_process import make_hold_invoices
from tests.unit.wallet.spending.bench import Bench
from tests.unit.wallet.spending.values import KEY, START

PAYEE_SECRET, OWN_SECRET = b"\x05" * 32, b"\x07" * 32
OWN_ID = "02989c0b76cb563971fdc9bef31ec06c3560f3249d6ee9e5d83c57625596e05f6f"
PREIMAGE = b"\x11" * 32


def make_invoice(amount_msat: int | None = 100, secret: bytes = PAYEE_SECRET, **fields: Any) -> str:
    """Return a signed invoice that expires an hour after START."""
    content: dict[str, Any] = {
        "currency": "bcrt",
        "created_at": START,
        "payment_hash": hashlib.sha256(PREIMAGE).digest(),
        "payment_secret": bytes(32),
        "amount_msat": amount_msat,
        "description": "tea",
    }
    return encode(Bolt11(**{**content, **fields}), secret)


class PayingBench(Bench):
    """The handlers of the paying methods, on a bench whose lightningd reads real invoices.

    Attributes:
        decoded: replaces fields of the answer of `decode`.

    """

    def __init__(self) -> None:
        super().__init__()
        self._clocks = [patch.object(module, "time", self) for module in (pay_invoice, pay_keysend)]
        for clock in self._clocks:
            clock.start()
        self.decoded: Json = {}
        for method in ("decode", "getinfo", "pay"):
            setattr(self.lightningd, f"_{method}", getattr(self, f"_{method}"))

    def close(self) -> None:
        for clock in self._clocks:
            clock.stop()
        super().close()

    @property
    def wallet(self) -> Wallet:
        return Wallet(
            self.lightningd,
            3600,
            ChainTip(),
            self.payments,
            hold_invoices=make_hold_invoices(self.lightningd, self.payments),
        )

    def ask(self, handler: Handler, params: Json, number: int = 1) -> "Asked":
        """Give a request to a handler, and run all that needs no waiting."""
        asking = Call(f"{number:064x}", params, self.connections[KEY], START)
        asked = Asked()
        self.loop.create_task(asked.answer(handler, self.wallet, asking))
        self.wait()
        return asked

    def _decode(self, string: str) -> Json:
        try:
            fields = decoding.decode(None, string)  # type: ignore[arg-type]
        except RpcError as error:
            raise RpcCallError("decode", error.code, str(error)) from None
        changed = {**fields, **self.decoded}
        return {name: value for name, value in changed.items() if value is not None}

    def _getinfo(self) -> Json:
        return {"id": OWN_ID, "network": "regtest"}

    def _pay(
        self, invstring: str, maxfee: int, retry_for: int, label: str, amount_msat: int | None = None
    ) -> Any:
        asked_msat = self._decode(invstring).get("amount_msat")
        if (asked_msat is None) == (amount_msat is None):
            raise RpcCallError("pay", RpcCode.INVALID_PARAMS, "an amount, once")
        sent_msat = int(asked_msat or amount_msat or 0)
        return self.lightningd._take(label, PREIMAGE.hex(), sent_msat, maxfee, retry_for)


class Asked:
    """A request and its answer: the result, or the code and message of the error."""

    def __init__(self) -> None:
        self.result: Json | None = None
        self.error: tuple[str, str] | None = None

    async def answer(self, handler: Handler, wallet: Wallet, call: Call) -> None:
        try:
            self.result = await handler(wallet, call)
        except Nip47Error as error:
            self.error = (error.code, error.message)

    @property
    def refusal(self) -> tuple[str, str]:
        assert self.error is not None, self.result
        return self.error


def paying_bench() -> Iterator[PayingBench]:
    """Yield a bench; tests make a fixture of this."""
    bench = PayingBench()
    yield bench
    bench.close()


def refusal_of(parse: Callable[[Params], object], params: Params) -> Nip47Error | None:
    """Return the error for which parameters are refused, None if they are accepted."""
    try:
        parse(params)
    except Nip47Error as error:
        return error
    return None


def spent_nothing(bench: PayingBench) -> bool:
    """Return True if nothing was reserved or sent."""
    return bench.sends() == 0 and not bench.lightningd.datastore
