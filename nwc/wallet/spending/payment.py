"""A payment that a connection asked for, and its record after it has ended, as values and as stored."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from nwc.nip47.errors import ErrorCode
from nwc.wallet.records import OPTIONAL, DamagedRecordError, Fields, RecordKind, read

# 21 million bitcoin. (An invoice can ask for more: cln/bolt11.py.)
MAX_PAYMENT_MSAT = 21_000_000 * 10**11
# The defaults of lightningd's own commands: 1 %, but never less than 5 sat.
_FEE_DIVISOR = 100
_LOWEST_FEE_LIMIT_MSAT = 5000


def usual_fee_limit_msat(amount_msat: int) -> int:
    """Return the default limit on the fee of a payment of this amount, in msat."""
    return max(_LOWEST_FEE_LIMIT_MSAT, amount_msat // _FEE_DIVISOR)


class PaymentState(StrEnum):
    """How a payment ended."""

    SETTLED = "settled"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment, with all that is needed to follow it to its end after a restart.

    Attributes:
        request_id: id of the request event, 64 hex digits. It identifies the payment in the plugin.
        request_created_at: the event's own time, Unix seconds.
        method: the NIP-47 method.
        encryption: the request's scheme, which the answer uses too.
        created_at: when the request was handled, Unix seconds.
        amount_msat: what the payee gets.
        max_fee_msat: the limit on the fee, which lightningd gets as well.
        payment_hash: 64 hex digits; None for a keysend, whose hash lightningd chooses, and for an offer
            whose invoice is not fetched yet.
        invoice: BOLT11 or BOLT12; None for a keysend, and for an offer whose invoice is not fetched yet.
        destination: the payee's node id.
        metadata: the client's object, or None.
        first_sendpay_index: the lowest `created_index` that lightningd can give to a part of it.
        reserved_at_us: when it was reserved, Unix microseconds; 0 in records of earlier versions.
        is_bolt12: True if it pays an offer. The invoice shows it too, but not every record keeps that.

    """

    request_id: str
    request_created_at: int
    method: str
    encryption: str
    created_at: int
    amount_msat: int
    max_fee_msat: int
    payment_hash: str | None
    invoice: str | None
    destination: str | None
    metadata: dict[str, Any] | None = field(default=None, metadata=OPTIONAL)
    first_sendpay_index: int = field(default=0, metadata=OPTIONAL)
    reserved_at_us: int = field(default=0, metadata=OPTIONAL)
    is_bolt12: bool = False

    @property
    def reserved_msat(self) -> int:
        """The most it can cost: amount and fee limit."""
        return self.amount_msat + self.max_fee_msat

    @property
    def order(self) -> int:
        """Unix microseconds by which payments of the same second are sorted.

        For payments of earlier versions only the second of the request is known.
        """
        return self.reserved_at_us or self.request_created_at * 1_000_000


@dataclass(frozen=True, slots=True)
class CommandParams:
    """Parameters of the paying command that are not stored, because a restart does not need them.

    Attributes:
        needs_amount: True if the invoice has no amount, so that the command must state it.
        has_fee_limit: True if a limit on the fee that is too low is FEE_LIMIT_EXCEEDED: the client gave
            it, or the method specifies this code.
        blinded_fee_msat: the part of the fee that the payee itself sets: the fee for the blinded path of
            a BOLT12 invoice. lightningd's `pay` does not count it against the limit on the fee.
        is_own: True if this node has made the invoice. Then nothing leaves it, and there is no route.
        tlvs: further records for the payee of a keysend: type in decimal digits, value in hex digits.

    """

    needs_amount: bool = False
    has_fee_limit: bool = False
    blinded_fee_msat: int = 0
    is_own: bool = False
    tlvs: dict[str, str] = field(default_factory=dict)


# Fetches the invoice for an offer, and returns the payment with it. Raises Nip47Error if there is none.
Fetch = Callable[[Payment], Awaitable[tuple[Payment, CommandParams]]]


@dataclass(frozen=True, slots=True)
class PaymentRecord:
    """A payment that has ended.

    Attributes:
        payment: the payment, with its payment hash if that became known.
        state: how it ended.
        ended_at: Unix seconds.
        sent_msat: what left the node, fees included; 0 if it failed.
        preimage: 64 hex digits, None if it failed.
        error_code, error_message: the error that the client got if it failed, else None.
        payer_proof: shows others that this payment of a BOLT12 invoice was made; None if there is none.

    """

    payment: Payment
    state: PaymentState
    ended_at: int
    sent_msat: int = 0
    preimage: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    payer_proof: str | None = None

    @property
    def is_settled(self) -> bool:
        """True if the payee has the money."""
        return self.state is PaymentState.SETTLED

    @property
    def amount_msat(self) -> int:
        """What the payee got, or was to get if it failed.

        A payee can accept some parts and refuse the others. Then it gave its preimage for less.
        """
        asked_msat = self.payment.amount_msat
        return min(asked_msat, self.sent_msat) if self.is_settled else asked_msat

    @property
    def fee_msat(self) -> int:
        """The fees that it cost, in msat."""
        return max(0, self.sent_msat - self.payment.amount_msat) if self.is_settled else 0

    def to_json(self) -> str:
        """Return the record as stored."""
        return KIND.to_json(asdict(self))


def with_is_bolt12(payment: Fields) -> Fields:
    """Return the fields of a payment that was stored before there were BOLT12 payments."""
    return {**payment, "is_bolt12": False}


def _from_1_to_2(fields: Fields) -> Fields:
    return {**fields, "payment": with_is_bolt12(fields["payment"]), "payer_proof": None}


KIND = RecordKind.of(PaymentRecord, upgrades=(_from_1_to_2,))


def parse_payment_record(text: str) -> PaymentRecord:
    """Return a stored record.

    Raises:
        RecordVersionError: a newer version of the plugin has written it.
        DamagedRecordError: it is damaged.

    """
    record = read(PaymentRecord, KIND.parse(text))
    if not _is_complete(record):
        raise DamagedRecordError("the payment record lacks what its state needs")
    return record


def _is_complete(record: PaymentRecord) -> bool:
    if record.is_settled:
        return record.preimage is not None and record.payment.payment_hash is not None
    return record.error_code in set(ErrorCode) and record.error_message is not None
