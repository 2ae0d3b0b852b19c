"""pay_keysend (NIP-47): send a spontaneous payment from the connection's budget, once per request."""

import re
import time
from dataclasses import dataclass
from typing import Any

from nwc.cln import onion
from nwc.nip47 import params
from nwc.nip47.errors import ErrorCode, Nip47Error, refuse
from nwc.nostr.encoding import to_json
from nwc.wallet.bolt11_payment import fee_limit_msat, max_fee_param
from nwc.wallet.context import Call, Wallet
from nwc.wallet.payment_answers import preimage_answer
from nwc.wallet.spending.payment import MAX_PAYMENT_MSAT, CommandParams, Payment, PaymentRecord

MAX_TLV_RECORDS = 50
# BOLT1, "Type-Length-Value Format": lower types are standard ones, which would break the payment.
MIN_CUSTOM_TYPE = 65_536
_MAX_TYPE = 2**64 - 1
_KEYSEND_PREIMAGE = 5_482_373_484

_NODE_ID = re.compile(r"0[23][0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class WantedKeysend:
    """The checked parameters of pay_keysend.

    Attributes:
        amount_msat: what the payee gets.
        destination: node id, 66 hex digits.
        tlvs: records for the payee: type in decimal digits, value in hex digits.
        max_fee_msat: as the client gave it, or None.
        metadata: stored with the payment; includes the records (NIP-47, "Metadata").

    """

    amount_msat: int
    destination: str
    tlvs: dict[str, str]
    max_fee_msat: int | None
    metadata: dict[str, Any] | None


def parse_params(given: params.Params) -> WantedKeysend:
    """Return the checked parameters of pay_keysend.

    Raises:
        Nip47Error: OTHER, with the field, the rule and the given value; NOT_IMPLEMENTED for a preimage.

    """
    amount_msat = params.required_integer(
        given, "amount", minimum=1, maximum=MAX_PAYMENT_MSAT, unit="msat"
    )
    destination = _destination(given)
    tlvs = _tlvs(given.get("tlv_records"))
    if given.get("preimage") not in (None, ""):
        raise Nip47Error(
            ErrorCode.NOT_IMPLEMENTED,
            "preimage: must be absent; Core Lightning chooses the preimage of a keysend itself",
        )
    metadata = params.json_object(given, "metadata", max_characters=params.MAX_METADATA_CHARACTERS)
    return WantedKeysend(
        amount_msat, destination, tlvs, max_fee_param(given), _with_records(metadata, tlvs)
    )


def _destination(given: params.Params) -> str:
    text = params.text(given, "pubkey", max_bytes=66)
    if text is None or not _NODE_ID.fullmatch(text.lower()):
        refuse("pubkey: must be a node's public key, 66 hex digits")
    return text.lower()


def _tlvs(given: object) -> dict[str, str]:
    if given is None or given == {}:  # Lua's empty array
        return {}
    if not isinstance(given, list) or len(given) > MAX_TLV_RECORDS:
        refuse(f"tlv_records: must be an array of at most {MAX_TLV_RECORDS} objects")
    tlvs = dict(_tlv(record) for record in given)
    if len(tlvs) != len(given):
        refuse("tlv_records: must have each type once")
    try:
        onion.check_records(tlvs)
    except onion.OnionTooLargeError as error:
        refuse(f"tlv_records: {error}")
    return tlvs


def _tlv(record: object) -> tuple[str, str]:
    if not isinstance(record, dict):
        refuse("tlv_records: must be an array of objects with type and value")
    try:
        type_ = params.required_integer(
            record, "type", minimum=MIN_CUSTOM_TYPE, maximum=_MAX_TYPE, unit="a custom record"
        )
    except Nip47Error as error:
        refuse(f"tlv_records: {error.message}")
    if type_ == _KEYSEND_PREIMAGE:
        refuse("tlv_records: must not have the type of the preimage, which the node chooses")
    return str(type_), _hex_value(record.get("value"))


def _hex_value(value: object) -> str:
    if not isinstance(value, str) or len(value) > 2 * onion.FREE_BYTES or not value.isascii():
        refuse(f"tlv_records: value must be hex digits of at most {onion.FREE_BYTES} bytes")
    try:
        return bytes.fromhex(value).hex()
    except ValueError:
        refuse("tlv_records: value must be hex digits")


def _with_records(metadata: dict[str, Any] | None, tlvs: dict[str, str]) -> dict[str, Any] | None:
    """Return the metadata with the records, or the records alone if both together are too long.

    NIP-47, "Metadata", shows the `tlv_records` of a keysend there.
    """
    if not tlvs:
        return metadata
    records = [{"type": int(type_), "value": value} for type_, value in tlvs.items()]
    both = {**(metadata or {}), "tlv_records": records}
    is_too_long = len(to_json(both).encode()) > params.MAX_METADATA_BYTES
    return {"tlv_records": records} if is_too_long else both


async def pay_keysend(wallet: Wallet, call: Call) -> dict[str, Any]:
    """Send a spontaneous payment, and return the result when it has settled.

    Raises:
        Nip47Error: as pay_invoice; NOT_IMPLEMENTED if the node cannot do it.
        NodeError: lightningd is unavailable, and nothing was sent.

    """
    record = await wallet.payments.previous_outcome(call.connection, call.request_id, call.created_at)
    return preimage_answer(record or await _send(wallet, call))


async def _send(wallet: Wallet, call: Call) -> PaymentRecord:
    wanted = parse_params(call.params)
    if not await wallet.payments.payer.can_keysend():
        raise Nip47Error(
            ErrorCode.NOT_IMPLEMENTED, "the node has no keysend command with a limit on the fee"
        )
    if wanted.destination == (await wallet.node.info())["id"]:
        refuse("pubkey: must be another node's; this is the node that would pay")
    payment = Payment(
        request_id=call.request_id,
        request_created_at=call.created_at,
        method="pay_keysend",
        encryption=call.encryption,
        created_at=int(time.time()),
        amount_msat=wanted.amount_msat,
        max_fee_msat=fee_limit_msat(wanted.amount_msat, wanted.max_fee_msat),
        payment_hash=None,
        invoice=None,
        destination=wanted.destination,
        metadata=wanted.metadata,
        first_sendpay_index=await wallet.payments.payer.next_sendpay_index(),
    )
    params = CommandParams(tlvs=wanted.tlvs, has_fee_limit=wanted.max_fee_msat is not None)
    return await wallet.payments.pay(call.connection, payment, params)
