"""Invoices and records must leave room for a route in the onion."""

from typing import Any

import pytest

from nwc.cln.onion import FREE_BYTES, MAX_ROUTE_HINTS, OnionTooLargeError, check_invoice, check_records

PAYEE = "02" + "ee" * 32


def hop(number: int, cltv_expiry_delta: int = 40) -> dict[str, Any]:
    return {
        "pubkey": f"02{number:064x}",
        "short_channel_id": f"1x1x{number}",
        "fee_base_msat": 1,
        "fee_proportional_millionths": 1,
        "cltv_expiry_delta": cltv_expiry_delta,
    }


def invoice(
    *hints: list[dict[str, Any]], metadata_bytes: int = 0, final_cltv: int = 18
) -> dict[str, Any]:
    metadata = {"payment_metadata": "00" * metadata_bytes} if metadata_bytes else {}
    routes = {"routes": list(hints)} if hints else {}
    return {"payee": PAYEE, "min_final_cltv_expiry": final_cltv, **metadata, **routes}


def hint(hops: int) -> list[dict[str, Any]]:
    return [hop(number) for number in range(hops)]


@pytest.mark.parametrize(
    "decoded",
    [
        invoice(),
        invoice(hint(1)),
        invoice(hint(3), hint(1)),
        invoice(hint(10)),
        invoice(*[hint(1)] * MAX_ROUTE_HINTS),
        invoice(metadata_bytes=300),
        invoice(metadata_bytes=FREE_BYTES - 4),
        invoice(hint(5), metadata_bytes=250),
        invoice(final_cltv=2016),
        invoice([hop(1, 1000)], final_cltv=1016),
    ],
)
def test_an_invoice_that_fits_is_accepted(decoded: dict[str, Any]) -> None:
    check_invoice(decoded)


@pytest.mark.parametrize(
    ("decoded", "words"),
    [
        (invoice(hint(12)), "leave no room for a route"),
        (invoice(metadata_bytes=639), "leave no room for a route"),
        (invoice(hint(12), metadata_bytes=639), "leave no room for a route"),
        (invoice(hint(5), metadata_bytes=400), "leave no room for a route"),
        (invoice(*[hint(1)] * (MAX_ROUTE_HINTS + 1)), "at most 20 route hints; got 21"),
        (invoice([hop(1), hop(1)]), "passes a node twice"),
        (invoice([hop(1), hop(2), hop(1)]), "passes a node twice"),
        (invoice([hop(1), {**hop(2), "pubkey": PAYEE}]), "passes a node twice"),
        (invoice([{**hop(2), "pubkey": PAYEE}]), "passes a node twice"),
        (invoice(hint(1), [hop(1), hop(1)]), "passes a node twice"),
        (invoice(final_cltv=2017), "for more than 2016 blocks"),
        (invoice(hint(1), [hop(1, 1000)], final_cltv=1017), "for more than 2016 blocks"),
        (invoice([hop(number, 65_535) for number in range(9)]), "for more than 2016 blocks"),
    ],
)
def test_an_invoice_that_does_not_fit_is_refused(decoded: dict[str, Any], words: str) -> None:
    with pytest.raises(OnionTooLargeError, match=words):
        check_invoice(decoded)


def records(count: int, length: int, first: int = 65_536) -> dict[str, str]:
    return {str(first + number): "00" * length for number in range(count)}


@pytest.mark.parametrize(
    "given", [{}, records(1, FREE_BYTES - 8), records(20, 20), records(50, 0), records(34, 0, 2**62)]
)
def test_records_that_fit_are_accepted(given: dict[str, str]) -> None:
    check_records(given)


@pytest.mark.parametrize("given", [records(1, FREE_BYTES - 7), records(50, 20), records(50, 3, 2**62)])
def test_records_that_do_not_fit_are_refused(given: dict[str, str]) -> None:
    with pytest.raises(OnionTooLargeError, match="must have at most 617 bytes together"):
        check_records(given)
