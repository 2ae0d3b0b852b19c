"""A payment that a connection asked for, and how it ended: values, and their form in the datastore."""

from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any

from nwc.nip47.errors import ErrorCode
from nwc.wallet.records import RecordKind, is_number

# 21 million bitcoin. (An invoice may ask for more: cln/bolt11.py.)
MAX_PAYMENT_MSAT = 21_000_000 * 10**11
# As lightningd's own commands: 1 %, but never less than 5 sat.
_FEE_DIVISOR = 100
_LOWEST_FEE_LIMIT_MSAT = 5000


def usual_fee_limit_msat(amount_msat: int) -> int:
    """Return the most a payment may cost beside its amount when nobody says otherwise, in msat."""
    return max(_LOWEST_FEE_LIMIT_MSAT, amount_msat // _FEE_DIVISOR)


class PaymentState(StrEnum):
    """How a payment ended."""

    SETTLED = "settled"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment that may be under way: with it a reservation in the ledger can be followed to its end.

    Attributes:
        request_id: id of the request event, 64 hex digits; the payment's name in the plugin.
        request_created_at: the event's own time, Unix seconds.
        method: the NIP-47 method.
        encryption: the request's scheme, which its answer takes too.
        created_at: when it was reserved, Unix seconds.
        amount_msat: what the payee gets.
        max_fee_msat: the most it may cost beside that; lightningd is told so.
        payment_hash: 64 hex digits; None for a keysend, whose hash lightningd chooses.
        invoice: BOLT11, None for a keysend.
        destination: the payee's node id.
        metadata: the client's object, or None.
        first_sendpay_index: lightningd's `created_index` from which its parts are to be looked for.
        reserved_at_us: when it was reserved, Unix microseconds; 0 in records of earlier versions.

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
    metadata: dict[str, Any] | None = None
    first_sendpay_index: int = 0
    reserved_at_us: int = 0

    @property
    def reserved_msat(self) -> int:
        """The most it can cost."""
        return self.amount_msat + self.max_fee_msat

    @property
    def order(self) -> int:
        """Unix microseconds that tell which of two payments of one second was made first.

        Of payments of earlier versions only the second of the request is known.
        """
        return self.reserved_at_us or self.request_created_at * 1_000_000


@dataclass(frozen=True, slots=True)
class CommandParams:
    """Parameters of the paying command that are not in the stored payment: nothing needs them later.

    Attributes:
        needs_amount: True if the invoice has no amount, so that the command must state it.
        tlvs: further records for the payee of a keysend: type in decimal digits, value in hex digits.

    """

    needs_amount: bool = False
    tlvs: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PaymentRecord:
    """A payment that has ended.

    Attributes:
        payment: what was asked for, with the payment hash where it came to be known.
        state: how it ended.
        ended_at: Unix seconds.
        sent_msat: what left the node, fees included; 0 when it failed.
        preimage: 64 hex digits, None when it failed.
        error_code, error_message: what the client was told when it failed, else None.

    """

    payment: Payment
    state: PaymentState
    ended_at: int
    sent_msat: int = 0
    preimage: str | None = None
    error_code: str | None = None
    error_message: str | None = None

    @property
    def is_settled(self) -> bool:
        """Tell whether the payee has got the money."""
        return self.state is PaymentState.SETTLED

    @property
    def amount_msat(self) -> int:
        """What the payee got, or was to get when it failed.

        A payee can take some of several parts and refuse the others. It has given its preimage for less
        then.
        """
        asked_msat = self.payment.amount_msat
        return min(asked_msat, self.sent_msat) if self.is_settled else asked_msat

    @property
    def fee_msat(self) -> int:
        """What it cost beside the amount."""
        return max(0, self.sent_msat - self.payment.amount_msat) if self.is_settled else 0

    def to_json(self) -> str:
        """Return the record as stored."""
        return KIND.to_json(asdict(self))


KIND = RecordKind(required=frozenset(f.name for f in fields(PaymentRecord)))


def payment_from_fields(stored: dict[str, Any]) -> Payment:
    """Read a payment from stored fields.

    Raises:
        ValueError, TypeError: damaged.

    """
    payment = Payment(**stored)
    numbers = (
        payment.request_created_at,
        payment.created_at,
        payment.amount_msat,
        payment.max_fee_msat,
        payment.first_sendpay_index,
        payment.reserved_at_us,
    )
    if not all(map(is_number, numbers)):
        raise ValueError("a number of the payment is none, less than 0 or too large")
    texts = (payment.request_id, payment.method, payment.encryption)
    may_be_none = (payment.payment_hash, payment.invoice, payment.destination)
    if not (
        all(isinstance(text, str) for text in texts)
        and all(isinstance(text, str | None) for text in may_be_none)
        and isinstance(payment.metadata, dict | None)
    ):
        raise ValueError("a text of the payment is none")
    return payment


def parse_payment_record(text: str) -> PaymentRecord:
    """Read a stored record.

    Raises:
        RecordVersionError: written by a newer version of the plugin.
        ValueError, TypeError, KeyError, AttributeError: damaged.

    """
    stored = KIND.parse(text)
    payment = payment_from_fields(stored.pop("payment"))
    record = PaymentRecord(payment, PaymentState(stored.pop("state")), **stored)
    if not _has_right_types(record):
        raise ValueError("a field of the payment record has the wrong type")
    return record


def _has_right_types(record: PaymentRecord) -> bool:
    if not (is_number(record.ended_at) and is_number(record.sent_msat)):
        return False
    if record.is_settled:
        return isinstance(record.preimage, str) and isinstance(record.payment.payment_hash, str)
    return record.error_code in set(ErrorCode) and isinstance(record.error_message, str)
