"""The payment of a BOLT11 invoice: the checks before it is made, for pay_invoice and pay."""

import time
from dataclasses import dataclass
from typing import Any

from nwc.cln import bolt11, onion
from nwc.cln.errors import RpcCallError, RpcCode
from nwc.cln.node import Json
from nwc.nip47 import params
from nwc.nip47.errors import ErrorCode, Nip47Error, refuse
from nwc.wallet.context import Call, Wallet
from nwc.wallet.spending.payment import (
    MAX_PAYMENT_MSAT,
    CommandParams,
    Payment,
    PaymentRecord,
    usual_fee_limit_msat,
)

# The invoice is stored in the node's datastore. With the longest description and ten hops of route hints
# it has some 2,500 characters.
MAX_INVOICE_CHARACTERS = 4096

# BOLT11, "Human-Readable Part": the prefix of each network, by lightningd's name of it.
_PREFIXES = {"bitcoin": "bc", "testnet": "tb", "testnet4": "tb", "signet": "tbs", "regtest": "bcrt"}


@dataclass(frozen=True, slots=True)
class WantedPayment:
    """The checked parameters of a payment.

    Attributes:
        invoice: BOLT11, lower case.
        amount_msat: as the client gave it, None if absent or 0.
        max_fee_msat: as the client gave it, or None.
        metadata: the client's object, None if absent or dropped.

    """

    invoice: str
    amount_msat: int | None
    max_fee_msat: int | None
    metadata: dict[str, Any] | None


def amount_param(given: params.Params) -> int | None:
    """Return the amount that the client gave, in msat; None if it is absent or 0.

    Raises:
        Nip47Error: OTHER.

    """
    return params.integer(given, "amount", minimum=0, maximum=MAX_PAYMENT_MSAT, unit="msat") or None


def max_fee_param(given: params.Params) -> int | None:
    """Return the client's own limit on the fee, in msat; None if it gave none.

    Raises:
        Nip47Error: OTHER.

    """
    return params.integer(given, "max_fee", minimum=0, maximum=MAX_PAYMENT_MSAT, unit="msat")


def fee_limit_msat(amount_msat: int, wanted_msat: int | None) -> int:
    """Return the limit on the fee, in msat: the client's, else the default for this amount."""
    return usual_fee_limit_msat(amount_msat) if wanted_msat is None else wanted_msat


async def earlier(wallet: Wallet, call: Call, wanted: WantedPayment) -> PaymentRecord | None:
    """Return the outcome of an earlier payment of the same invoice by this connection, None without one.

    Ask before `prepare`: an invoice that is paid, or being paid, may have expired. The app must not be
    told then that nothing was sent.
    """
    return await wallet.payments.earlier_payment(call.connection, bolt11.payment_hash(wanted.invoice))


async def prepare(
    wallet: Wallet,
    call: Call,
    method: str,
    wanted: WantedPayment,
    *,
    wrong_network: ErrorCode = ErrorCode.OTHER,
) -> tuple[Payment, CommandParams]:
    """Return the payment of an invoice, after all checks, and the parameters of its command.

    Args:
        wallet: what the handlers share.
        call: the request.
        method: the NIP-47 method of the request.
        wanted: its checked parameters.
        wrong_network: the error code for an invoice of another network.

    Raises:
        Nip47Error: OTHER for a bad invoice or amount; INTERNAL if the node cannot decode.
        NodeError: lightningd is unavailable.

    """
    decoded = await _decode(wallet, wanted.invoice)
    node = await wallet.node.info()
    _check_network(decoded, node, wrong_network)
    _check_invoice(decoded, time.time())
    amount_msat = _amount_msat(decoded, wanted.amount_msat)
    is_own = decoded["payee"] == node["id"]
    payment = Payment(
        request_id=call.request_id,
        request_created_at=call.created_at,
        method=method,
        encryption=call.encryption,
        created_at=int(time.time()),
        amount_msat=amount_msat,
        # A payment to the own node has no route, and so no fee.
        max_fee_msat=0 if is_own else fee_limit_msat(amount_msat, wanted.max_fee_msat),
        payment_hash=decoded["payment_hash"],
        invoice=wanted.invoice,
        destination=decoded["payee"],
        metadata=wanted.metadata,
        first_sendpay_index=await wallet.payments.payer.next_sendpay_index(),
    )
    await wallet.payments.payer.prepare()
    return payment, CommandParams(
        needs_amount=decoded.get("amount_msat") is None,
        has_fee_limit=method == "pay" or wanted.max_fee_msat is not None,
        is_own=is_own,
    )


async def _decode(wallet: Wallet, invoice: str) -> Json:
    try:
        decoded = await wallet.payments.payer.decode(invoice)
    except RpcCallError as error:
        if error.code == RpcCode.INVALID_PARAMS:
            refuse("invoice: must be a BOLT11 invoice that the node can read")
        if error.code == RpcCode.METHOD_NOT_FOUND:  # lightningd's plugin `offers` is disabled
            raise Nip47Error(
                ErrorCode.INTERNAL, "the node has no command to read an invoice with; nothing was paid"
            ) from None
        raise
    if not decoded.get("valid") or decoded.get("type") != "bolt11 invoice":
        refuse("invoice: must be a BOLT11 invoice that the node can read")
    return decoded


def _check_network(decoded: Json, node: Json, code: ErrorCode) -> None:
    if decoded["currency"] != _PREFIXES.get(node["network"]):
        raise Nip47Error(
            code,
            f"invoice: must be of the network {node['network']}; its prefix is ln{decoded['currency']}",
        )


def _check_invoice(decoded: Json, now: float) -> None:
    if decoded["created_at"] + decoded["expiry"] <= now:
        refuse("invoice: must not have expired")
    try:
        onion.check_invoice(decoded)
    except onion.OnionTooLargeError as error:
        refuse(f"invoice: {error}")


def _amount_msat(decoded: Json, given_msat: int | None) -> int:
    asked = decoded.get("amount_msat")
    if asked is None:
        if given_msat is None:
            refuse("amount: must be given in msat, since the invoice has none")
        return given_msat
    if given_msat is not None and given_msat != asked:
        refuse(f"amount: must be the invoice's {asked} msat, or absent; got {given_msat}")
    if not 0 < asked <= MAX_PAYMENT_MSAT:
        refuse(f"invoice: must be for 1 to {MAX_PAYMENT_MSAT} msat; got {asked}")
    return int(asked)


def checked_invoice(text: str) -> str:
    """Return a BOLT11 invoice in lower case, without `lightning:`.

    Raises:
        Nip47Error: OTHER, it is none.

    """
    invoice = text.strip().lower().removeprefix("lightning:")
    try:
        bolt11.payment_hash(invoice)
    except ValueError:
        refuse("invoice: must be a BOLT11 invoice, complete and unchanged")
    return invoice
