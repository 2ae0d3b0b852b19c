"""Payment instructions that people scan or paste: BIP-321 URIs, BOLT11 invoices and BOLT12 offers.

This module looks at the text only. Whether an invoice or an offer is complete, and of the node's own
network, is for lightningd to say.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from urllib.parse import quote, unquote, unquote_to_bytes

from nwc.nip47.errors import ErrorCode, Nip47Error
from nwc.nostr import bech32

# An offer and an invoice of 4,096 characters each, percent-encoding and other parameters.
MAX_PAYMENT_CHARACTERS = 16_384
MAX_PARAMETERS = 100

_SCHEME = "bitcoin:"
_LIGHTNING_SCHEME = "lightning:"
_OFFER = "lno1"
_LNURL = "lnurl1"
# BOLT11, "Human-Readable Part": `ln`, the network, perhaps an amount.
_BOLT11 = re.compile(r"ln(bcrt|bc|tbs|tb|sb)[0-9]*[munp]?1")
_NOT_ENCODED = re.compile(r"%(?![0-9A-Fa-f]{2})")
# BIP-321 takes the amount from BIP-21: digits with at most one decimal point, in bitcoin.
_AMOUNT = re.compile(r"(?=\.?[0-9])[0-9]{0,12}(\.[0-9]{0,18})?")
_MSAT_PER_BITCOIN = 10**11
_MAX_AMOUNT_MSAT = 21_000_000 * _MSAT_PER_BITCOIN
# BOLT12, "Encoding": a long string may be divided by a plus sign and white space.
_BOLT12_JOIN = re.compile(r"\+\s*")
_ONCE = ("amount", "lightning", "lno")


@dataclass(frozen=True, slots=True)
class PaymentInstructions:
    """What a payment text asks for. At least one of `lightning` and `lno` is set.

    Attributes:
        amount_msat: the URI's own amount, None if it has none.
        lightning: a BOLT11 invoice in lower case, or None.
        lno: a BOLT12 offer in lower case, or None.

    """

    amount_msat: int | None
    lightning: str | None
    lno: str | None


def parse_payment(text: str) -> PaymentInstructions:
    """Return the instructions in a BIP-321 URI, or in a bare BOLT11 invoice or BOLT12 offer.

    Raises:
        Nip47Error: BAD_REQUEST if the text is malformed or has a required parameter that is unknown;
            UNSUPPORTED_PAYMENT_INSTRUCTION if it has nothing that this wallet can pay.

    """
    if len(text) > MAX_PAYMENT_CHARACTERS:
        raise _malformed(f"must have at most {MAX_PAYMENT_CHARACTERS} characters; got {len(text)}")
    text = text.strip()
    if text[: len(_SCHEME)].lower() == _SCHEME:
        return _parse_uri(text[len(_SCHEME) :])
    if text[: len(_LIGHTNING_SCHEME)].lower() == _LIGHTNING_SCHEME:
        text = text[len(_LIGHTNING_SCHEME) :]
    return _parse_bare(text)


def payment_uri(invoice: str) -> str:
    """Return the BIP-321 URI of a BOLT11 invoice."""
    return f"{_SCHEME}?lightning={quote(invoice, safe='')}"


def _parse_bare(text: str) -> PaymentInstructions:
    lowered = text.lower()
    if lowered.startswith(_OFFER):
        return PaymentInstructions(None, None, _offer(text))
    if _BOLT11.match(lowered):
        return PaymentInstructions(None, _invoice(text), None)
    if lowered.startswith(_LNURL) or "@" in text or "\u20bf" in text:
        raise _unsupported("must not be an LNURL or a BIP-353 name; this method does not resolve them")
    if lowered.startswith(("lni1", "lnr1", "bc1", "tb1", "bcrt1", "sp1", "tsp1")):
        raise _unsupported(
            "must be a BOLT11 invoice, a BOLT12 offer, or a BIP-321 URI with one of these"
        )
    raise _malformed("must be a BIP-321 URI, a BOLT11 invoice or a BOLT12 offer")


def _parse_uri(rest: str) -> PaymentInstructions:
    """Return the instructions of a URI, given without its scheme. Its address, if any, is ignored."""
    _, _, query = rest.partition("?")
    parameters = _parameters(query)
    invoice, offer = parameters.get("lightning"), parameters.get("lno")
    if invoice is not None and invoice.lower().startswith(_LNURL):
        invoice = None
    if not invoice and not offer:
        raise _unsupported(
            "must have the parameter lightning with a BOLT11 invoice, or lno with an offer"
        )
    return PaymentInstructions(
        _amount_msat(parameters["amount"]) if "amount" in parameters else None,
        _invoice(invoice) if invoice else None,
        _offer(offer) if offer else None,
    )


def _parameters(query: str) -> dict[str, str]:
    """Return the known parameters of a query, decoded (BIP-321, "General rules for handling")."""
    pairs = [pair.partition("=") for pair in query.split("&") if pair]
    if len(pairs) > MAX_PARAMETERS:
        raise _malformed(f"must have at most {MAX_PARAMETERS} parameters; got {len(pairs)}")
    known: dict[str, str] = {}
    for name, _, value in pairs:
        key = unquote(name).lower()
        if key == "req-pop":
            raise _malformed("must not have req-pop: this wallet cannot open the URI that it requires")
        if key.startswith("req-"):
            raise _malformed("must have no required parameter (req-…) but those of BIP-321")
        if key in known:
            raise _malformed(f"must have the parameter {key} only once")
        if key in _ONCE:
            known[key] = _decoded(key, value)
    return known


def _decoded(key: str, value: str) -> str:
    if not value.isascii() or _NOT_ENCODED.search(value):
        raise _malformed(f"must have a percent-encoded value of {key}")
    try:
        return unquote_to_bytes(value).decode("ascii")
    except UnicodeDecodeError:
        raise _malformed(f"must have a value of {key} that is ASCII") from None


def _amount_msat(text: str) -> int:
    """Return the amount of a URI, which is in bitcoin, in msat."""
    if not _AMOUNT.fullmatch(text):
        raise _malformed("must have an amount in bitcoin, as a decimal number")
    msat = Decimal(text) * _MSAT_PER_BITCOIN
    if msat != int(msat) or not 0 < msat <= _MAX_AMOUNT_MSAT:
        raise _malformed("must have an amount of 1 msat to 21 million bitcoin, in whole msat")
    return int(msat)


def _invoice(text: str) -> str:
    if not _BOLT11.match(text.lower()) or not _is_bech32(text):
        raise _malformed("must have a complete and unchanged BOLT11 invoice")
    return text.lower()


def _offer(text: str) -> str:
    joined = _BOLT12_JOIN.sub("", text)
    if not joined.lower().startswith(_OFFER) or not _is_bech32(joined):
        raise _malformed("must have a complete and unchanged BOLT12 offer")
    return joined.lower()


def _is_bech32(text: str) -> bool:
    try:
        bech32.split(text)
    except ValueError:
        return False
    return True


def _malformed(rule: str) -> Nip47Error:
    return Nip47Error(ErrorCode.BAD_REQUEST, f"payment: {rule}")


def _unsupported(rule: str) -> Nip47Error:
    return Nip47Error(ErrorCode.UNSUPPORTED_PAYMENT_INSTRUCTION, f"payment: {rule}")
