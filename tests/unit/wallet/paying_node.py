"""A simulated lightningd that pays real invoices, with the handlers of the paying methods on it."""

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

from nwc.cln.errors import RpcCallError, RpcCode
from nwc.cln.node import Json
from nwc.nip47.errors import Nip47Error
from nwc.nip47.params import Params
from nwc.nostr import bech32
from nwc.wallet import bolt11_payment, bolt12_payment
from nwc.wallet.context import Call, ChainTip, Handler, Wallet
from nwc.wallet.methods import pay_keysend
from tests.double import decoding
from tests.double.bolt11 import Bolt11, encode
from tests.double.params import RpcError
from tests.unit.in_process import make_hold_invoices
from tests.unit.wallet.spending.bench import Bench
from tests.unit.wallet.spending.simulation import hash_of, preimage_of
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


OFFER_ID, ISSUER_ID, REGTEST = (
    "ea" * 32,
    "02" + "5f" * 32,
    "06226e46111a0b59caaf126043eb5bbf28c34f3a5e332a1fc7b2b73cf188910f",
)


def tlv(type_: int, value: bytes) -> bytes:
    return bytes([type_, len(value)]) + value


def encoded_bolt12(hrp: str, stream: bytes) -> str:
    """Return a stream in BOLT12's encoding: bech32 without a checksum."""
    return bech32.encode(hrp, bech32.words_from_bytes(stream))[: -bech32.CHECKSUM_LENGTH]


OFFER = encoded_bolt12("lno", tlv(10, b"tea"))


class PayingBench(Bench):
    """The handlers of the paying methods, on a bench whose lightningd reads real invoices.

    It has one offer, OFFER. Each `fetchinvoice` makes another invoice for it.

    Attributes:
        decoded: replaces fields of the answer of `decode` for a BOLT11 invoice.
        offer: the answer of `decode` for the offer.
        fetched: replaces fields of the answer of `decode` for fetched invoices.
        invoices: the answers of `decode` for the fetched invoices.
        issuer: what `fetchinvoice` answers instead of an invoice: an error, or a future.
        proof: what `createproof` answers.
        own_status: of every invoice that lightningd has made; None if it has none.

    """

    def __init__(self) -> None:
        super().__init__()
        self._clocks = [
            patch.object(module, "time", self)
            for module in (bolt11_payment, bolt12_payment, pay_keysend)
        ]
        for clock in self._clocks:
            clock.start()
        self.decoded: Json = {}
        self.own_status: str | None = None
        self.offer: Json = {
            "type": "bolt12 offer",
            "offer_id": OFFER_ID,
            "offer_chains": [REGTEST],
            "offer_amount_msat": 100,
            "valid": True,
        }
        self.fetched: Json = {}
        self.invoices: dict[str, Json] = {}
        self.issuer: RpcCallError | asyncio.Future[Json] | None = None
        self.proof: Json | RpcCallError = {"proofs": [{"bolt12": "lnp1proof"}]}
        for method in ("decode", "getinfo", "pay", "fetchinvoice", "createproof", "listinvoices"):
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
        if string == OFFER:
            return given(self.offer)
        if string in self.invoices:
            return given({**self.invoices[string], **self.fetched})
        try:
            fields = decoding.decode(None, string)  # type: ignore[arg-type]
        except RpcError as error:
            raise RpcCallError("decode", error.code, str(error)) from None
        return given({**fields, **self.decoded})

    def _fetchinvoice(
        self, offer: str, timeout: int, amount_msat: int | None = None, payer_note: str | None = None
    ) -> Any:
        if isinstance(self.issuer, RpcCallError):
            raise self.issuer
        return self.issuer or self.new_invoice(amount_msat, payer_note)

    def new_invoice(self, amount_msat: int | None = None, payer_note: str | None = None) -> Json:
        """Make an invoice for the offer, and return the answer of `fetchinvoice`."""
        payment_hash = hash_of(preimage_of(f"fetched {len(self.invoices)}"))
        content = (
            tlv(10, b"tea") + tlv(164, START.to_bytes(8, "big")) + tlv(168, bytes.fromhex(payment_hash))
        )
        invoice = encoded_bolt12("lni", content)
        payinfo = {"fee_base_msat": 0, "fee_proportional_millionths": 0, "cltv_expiry_delta": 10}
        self.invoices[invoice] = {
            "type": "bolt12 invoice",
            "offer_id": self.offer["offer_id"],
            "invreq_chain": REGTEST,
            "invreq_payer_note": payer_note,
            "invoice_paths": [{"payinfo": payinfo, "path": [{"encrypted_recipient_data": "00" * 50}]}],
            "invoice_created_at": START,
            "invoice_relative_expiry": 7200,
            "invoice_payment_hash": payment_hash,
            "invoice_amount_msat": amount_msat or self.offer.get("offer_amount_msat"),
            "invoice_node_id": ISSUER_ID,
            "valid": True,
        }
        return {"invoice": invoice, "changes": {}}

    def _createproof(self, invstring: str, include: list[str]) -> Json:
        if isinstance(self.proof, RpcCallError):
            raise self.proof
        return self.proof

    def _listinvoices(self, payment_hash: str) -> Json:
        found = {"payment_hash": payment_hash, "status": self.own_status}
        return {"invoices": [found] if self.own_status else []}

    def _getinfo(self) -> Json:
        return {"id": OWN_ID, "network": "regtest"}

    def _pay(
        self, invstring: str, maxfee: int, retry_for: int, label: str, amount_msat: int | None = None
    ) -> Any:
        decoded = self._decode(invstring)
        if decoded["type"] == "bolt12 invoice":
            name = f"fetched {list(self.invoices).index(invstring)}"
            amount = int(decoded["invoice_amount_msat"])
            return self.lightningd._take(label, preimage_of(name), amount, maxfee, retry_for)
        asked_msat = decoded.get("amount_msat")
        if (asked_msat is None) == (amount_msat is None):
            raise RpcCallError("pay", RpcCode.INVALID_PARAMS, "an amount, once")
        sent_msat = int(asked_msat or amount_msat or 0)
        return self.lightningd._take(label, PREIMAGE.hex(), sent_msat, maxfee, retry_for)


def given(fields: Json) -> Json:
    return {name: value for name, value in fields.items() if value is not None}


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
