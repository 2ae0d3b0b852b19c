"""The double's own commands, one by one."""

import hashlib
from typing import Any

import pytest
from pyln.client import RpcError
from pyln.proto.bech32 import CHARSET, bech32_decode, bech32_encode
from pyln.proto.invoice import Invoice

from tests.double import bolt11
from tests.double.process import LightningdDouble
from tests.unit.double.conftest import refusal

PREIMAGE = "11" * 32
HASH = hashlib.sha256(bytes.fromhex(PREIMAGE)).hexdigest()


def refused(double: LightningdDouble, method: str, **params: Any) -> int:
    code: int = refusal(double, method, params)["code"]
    return code


def test_an_invoice_has_a_valid_signature(double: LightningdDouble) -> None:
    made = double.rpc.invoice(2_500_000, "one", "1 cup of coffee ☕", expiry=60, preimage=PREIMAGE)
    assert made["payment_hash"] == HASH
    decoded = Invoice.decode(made["bolt11"])  # type: ignore[no-untyped-call]
    assert decoded.pubkey.format().hex() == double.rpc.getinfo()["id"]
    assert decoded.paymenthash.hex() == HASH
    assert decoded.currency == "bcrt"
    assert int(decoded.amount * 10**11) == 2_500_000
    assert dict(decoded.tags) == {"d": "1 cup of coffee ☕", "x": 60}
    assert decoded.min_final_cltv_expiry == 10
    shown = double.rpc.decode(made["bolt11"])
    assert shown["valid"] is True
    assert shown["type"] == "bolt11 invoice"
    assert shown["payee"] == double.rpc.getinfo()["id"]
    assert shown["payment_secret"] == made["payment_secret"]
    assert (shown["amount_msat"], shown["expiry"]) == (2_500_000, 60)
    assert shown["created_at"] + 60 == pytest.approx(made["expires_at"], abs=1)
    assert "description_hash" not in shown


@pytest.mark.parametrize(
    ("amount", "text"),
    [(None, ""), (1, "10p"), (10, "100p"), (100, "1n"), (100_000, "1u"), (10**11, "1")],
)
def test_amounts_are_written_in_their_shortest_form(amount: int | None, text: str) -> None:
    content = bolt11.Bolt11("bcrt", 1, b"\1" * 32, b"\2" * 32, amount, "", None, 3600)
    encoded = bolt11.encode(content, b"\3" * 32)
    assert encoded.startswith(f"lnbcrt{text}1")
    decoded = bolt11.decode(encoded)
    assert decoded.amount_msat == amount
    assert decoded.signature.startswith(b"\x30")


def test_deschashonly_replaces_the_description_by_its_hash(double: LightningdDouble) -> None:
    text = "x" * 1000
    made = double.rpc.invoice("any", "long", text, deschashonly=True)
    tags = dict(Invoice.decode(made["bolt11"]).tags)  # type: ignore[no-untyped-call]
    assert tags["h"] == hashlib.sha256(text.encode()).digest()
    assert "d" not in tags
    assert double.rpc.listinvoices("long")["invoices"][0]["description"] == text


def test_createinvoice_signs_a_bare_description_hash(double: LightningdDouble) -> None:
    description_hash = hashlib.sha256(b"metadata").digest()
    template = double.rpc.invoice(1000, "template", "shown", preimage=PREIMAGE)["bolt11"]
    content = bolt11.decode(template)
    double.rpc.delinvoice("template", "unpaid")
    both = _with_hash(template, description_hash)
    made = double.rpc.createinvoice(both, "real", PREIMAGE)
    assert made["description"] == "shown"
    decoded = double.rpc.decode(made["bolt11"])
    assert decoded["description_hash"] == description_hash.hex()
    assert "description" not in decoded
    assert decoded["payee"] == double.rpc.getinfo()["id"]
    assert bolt11.decode(made["bolt11"]).payment_secret == content.payment_secret
    assert refused(double, "createinvoice", invstring=both, label="real", preimage=PREIMAGE) == 900
    bare = made["bolt11"]
    with pytest.raises(RpcError, match="Missing description in invoice"):
        double.rpc.createinvoice(bare, "other", PREIMAGE)
    with pytest.raises(RpcError, match="Incorrect preimage"):
        double.rpc.createinvoice(both, "other", "22" * 32)
    assert refused(double, "createinvoice", invstring="x", label="y", preimage=PREIMAGE) == -32602


def _with_hash(invstring: str, description_hash: bytes) -> str:
    """Return the invoice with an `h` field before the other fields, and an invalid signature."""
    hrp, data = bech32_decode(invstring)
    field = [CHARSET.index("h"), 1, 20, *bolt11.from_bytes(description_hash)]
    return str(bech32_encode(hrp, bytes([*data[:7], *field, *data[7:]])))


@pytest.mark.parametrize(
    "params",
    [
        {"amount_msat": 0},
        {"amount_msat": -1},
        {"amount_msat": 1.5},
        {"amount_msat": "10 sat"},
        {"amount_msat": 1 << 64},
        {"amount_msat": True},
        {"label": "x" * 129},
        {"label": ["x"]},
        {"label": -1},
        {"description": "x" * 640},
        {"description": "ü" * 320},
        {"description": "a\0b"},
        {"description": 5},
        {"expiry": "soon"},
        {"expiry": 1 << 64},
        {"preimage": "11"},
        {"deschashonly": "true"},
        {"unknown": 1},
    ],
)
def test_invoice_refuses_bad_parameters(double: LightningdDouble, params: dict[str, Any]) -> None:
    good = {"amount_msat": 1, "label": "l", "description": "d"}
    assert refused(double, "invoice", **{**good, **params}) == -32602


def test_invoice_accepts_all_forms_of_an_amount_and_the_limits(double: LightningdDouble) -> None:
    for label, amount in enumerate(["1000", "1sat", "0.00000001btc", 1000]):
        made = double.rpc.invoice(amount, label, "x" * 639)
        assert double.rpc.decode(made["bolt11"])["amount_msat"] == 1000
    assert double.rpc.listinvoices("0")["invoices"][0]["label"] == "0"
    double.rpc.invoice((1 << 64) - 1, "x" * 128, "", expiry=1 << 50)


def test_invoice_refuses_a_known_label_or_preimage(double: LightningdDouble) -> None:
    double.rpc.invoice(1, "one", "d", preimage=PREIMAGE)
    again = {"amount_msat": 1, "description": "d"}
    assert refused(double, "invoice", label="one", **again) == 900
    assert refused(double, "invoice", label="two", preimage=PREIMAGE, **again) == 901


@pytest.mark.parametrize("expiry", [-1, 1 << 60])
def test_an_absurd_expiry_aborts_the_double(double: LightningdDouble, expiry: int) -> None:
    with pytest.raises((ValueError, ConnectionError, RpcError)):
        double.rpc.invoice(1, "l", "d", expiry=expiry)
    assert double.wait() == -6
    double.start()
    assert double.rpc.listinvoices()["invoices"] == []


def test_delinvoice_deletes_only_the_given_label_in_the_given_status(double: LightningdDouble) -> None:
    double.rpc.invoice(1, "one", "d")
    assert refused(double, "delinvoice", label="two", status="unpaid") == 905
    assert refused(double, "delinvoice", label="one", status="paid") == 906
    assert "description" not in double.rpc.delinvoice("one", "unpaid", desconly=True)
    assert refused(double, "delinvoice", label="one", status="unpaid", desconly=True) == 908
    assert double.rpc.delinvoice("one", "unpaid")["label"] == "one"
    assert double.rpc.listinvoices("one") == {"invoices": []}


def test_listinvoices_returns_one_invoice_or_a_page(double: LightningdDouble) -> None:
    made = [double.rpc.invoice(1000 + n, f"l{n}", "d") for n in range(5)]
    page = double.rpc.listinvoices(index="created", start=2, limit=2)["invoices"]
    assert [invoice["label"] for invoice in page] == ["l1", "l2"]
    assert [invoice["created_index"] for invoice in page] == [2, 3]
    for one in ({"invstring": made[3]["bolt11"]}, {"payment_hash": made[3]["payment_hash"]}):
        assert double.rpc.listinvoices(**one)["invoices"][0]["label"] == "l3"
    assert refused(double, "listinvoices", label="l1", payment_hash=HASH) == -32602
    assert refused(double, "listinvoices", start=1) == -32602
    assert refused(double, "listinvoices", index="nonsense") == -32602


def test_an_invoice_is_paid_or_expires(double: LightningdDouble) -> None:
    double.rpc.invoice("any", "one", "d", preimage=PREIMAGE)
    assert refused(double, "dev-pay", label="one") == -32602
    paid = double.rpc.call("dev-pay", {"label": "one", "amount_msat": 7})
    assert paid == double.rpc.listinvoices("one")["invoices"][0]
    assert (paid["status"], paid["pay_index"], paid["updated_index"]) == ("paid", 1, 1)
    assert (paid["amount_received_msat"], paid["payment_preimage"]) == (7, PREIMAGE)
    assert refused(double, "dev-pay", label="one", amount_msat=7) == 906
    double.rpc.invoice(1, "two", "d", expiry=0)
    expired = double.rpc.listinvoices("two")["invoices"][0]
    assert expired["status"] == "expired"
    assert "payment_preimage" not in expired
    updated = double.rpc.listinvoices(index="updated", start=1)["invoices"]
    assert [invoice["label"] for invoice in updated] == ["one", "two"]


def test_the_datastore_checks_modes_generations_and_keys(double: LightningdDouble) -> None:
    rpc, key = double.rpc, ["a", "b"]
    assert refused(double, "datastore", key=key, string="x", mode="must-replace") == 1203
    assert refused(double, "datastore", key=key, string="x", mode="must-append") == 1203
    created = rpc.datastore(key, "x")
    assert created == {"key": key, "generation": 0, "hex": "78", "string": "x"}
    assert refused(double, "datastore", key=key, string="y") == 1202
    assert rpc.datastore(key, "y", mode="must-replace")["generation"] == 1
    assert rpc.datastore(key, hex="ff", mode="create-or-append")["hex"] == "79ff"
    assert "string" not in rpc.listdatastore(key)["datastore"][0]
    assert rpc.datastore(key, "z", mode="create-or-replace", generation=None)["generation"] == 3
    wrong = {"key": key, "string": "w", "generation": 2}
    assert refused(double, "datastore", mode="must-replace", **wrong) == 1204
    assert refused(double, "datastore", mode="create-or-replace", **wrong) == -32602
    assert refused(double, "datastore", key=key, string="w", mode="maybe") == -32602
    assert refused(double, "datastore", key=key) == -32602
    assert refused(double, "datastore", key=key, string="w", hex="00") == -32602
    assert refused(double, "datastore", key=[], string="w") == -32602
    assert refused(double, "datastore", key="a", string="w") == 1205
    assert refused(double, "datastore", key=[*key, "c"], string="w") == 1206
    assert refused(double, "deldatastore", key="a") == 1200
    assert refused(double, "deldatastore", key=key, generation=1) == 1201
    assert rpc.deldatastore(key, 3)["string"] == "z"
    assert rpc.listdatastore()["datastore"] == []


def test_the_datastore_accepts_an_escaped_backslash_before_u(double: LightningdDouble) -> None:
    r"""lightningd refuses only `\u`; JSON text stored as a string has `\\u`."""
    for text in (r"\u0041", r"\\u0041"):
        assert double.rpc.datastore(["a"], text, mode="create-or-replace")["string"] == text
    assert refused(double, "datastore", key=["a"], string="\x01", mode="must-replace") == -32602


def test_listdatastore_shows_one_level(double: LightningdDouble) -> None:
    for key in (["a", "b", "c"], ["a", "b", "d"], ["a", "e"], "f"):
        double.rpc.datastore(key, "x")
    top = double.rpc.listdatastore()["datastore"]
    assert [entry["key"] for entry in top] == [["a"], ["f"]]
    assert top[0].keys() == {"key"}
    below = double.rpc.listdatastore("a")["datastore"]
    assert [entry["key"] for entry in below] == [["a", "b"], ["a", "e"]]
    assert below[1]["string"] == "x"
    usage = double.rpc.datastoreusage("f")["datastoreusage"]
    assert usage == {"key": "[f]", "total_bytes": 2}


def test_makesecret_returns_the_same_secret_for_the_same_bytes(double: LightningdDouble) -> None:
    secret = double.rpc.makesecret(string="abc")["secret"]
    assert len(bytes.fromhex(secret)) == 32
    assert double.rpc.makesecret(hex=b"abc".hex())["secret"] == secret
    assert refused(double, "makesecret") == -32602


def test_the_state_survives_a_kill(double: LightningdDouble) -> None:
    double.rpc.invoice(1, "one", "d")
    double.rpc.datastore("k", "v")
    known = [double.rpc.getinfo()["id"], double.rpc.makesecret(string="s"), double.rpc.listinvoices()]
    double.kill()
    double.start()
    assert double.rpc.listdatastore("k")["datastore"][0]["string"] == "v"
    assert known == [
        double.rpc.getinfo()["id"],
        double.rpc.makesecret(string="s"),
        double.rpc.listinvoices(),
    ]


def test_dev_commits_counts_only_transactions_that_wrote(double: LightningdDouble) -> None:
    before = double.rpc.call("dev-commits")["total"]
    double.rpc.invoice(1, "one", "d")
    double.rpc.listinvoices()
    assert refused(double, "invoice", amount_msat=1, label="one", description="d") == 900
    double.rpc.datastore("k", "v")
    after = double.rpc.call("dev-commits")
    assert after["commits"]["invoice"] == 1
    assert after["total"] == before + 2
