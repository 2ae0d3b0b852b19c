import json
from typing import Any

import nostr_sdk
import pytest

from nwc.nip47.encryption import Encryption
from nwc.nip47.errors import ErrorCode, Nip47Error
from nwc.nip47.kinds import KIND_RESPONSE
from nwc.nip47.request import Request
from nwc.nip47.response import MAX_PLAINTEXT_BYTES, seal_response
from nwc.nostr.event import Event, verify_event
from tests.unit.helpers import CLIENT, NOW, WALLET, cipher_of_client, cipher_of_wallet

REQUEST = Request("e" * 64, NOW, Encryption.NIP44_V2, "get_info", {})


def seal(outcome: dict[str, Any] | Nip47Error, request: Request = REQUEST, now: int = NOW) -> Event:
    event = seal_response(request, outcome, WALLET, cipher_of_wallet(), now)
    verify_event(event)
    return event


def opened(event: Event, scheme: Encryption = Encryption.NIP44_V2) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(cipher_of_client().decrypt(scheme, event.content))
    assert list(body) == ["result_type", "error", "result"]
    return body


def result_of(size: int) -> dict[str, Any]:
    """Return a result whose answer has `size` bytes of plaintext."""
    frame = len('{"result_type":"get_info","error":null,"result":{"a":""}}')
    return {"a": "x" * (size - frame)}


def test_an_answer_has_the_result_and_no_error() -> None:
    event = seal({"alias": "é", "empty": None})
    assert opened(event) == {
        "result_type": "get_info",
        "error": None,
        "result": {"alias": "é", "empty": None},
    }
    assert event.kind == KIND_RESPONSE == 23195
    assert event.pubkey == WALLET.public_key
    assert event.tags == (("p", CLIENT.public_key), ("e", REQUEST.id))


def test_an_answer_has_the_error_and_no_result() -> None:
    event = seal(Nip47Error(ErrorCode.OTHER, "amount: must be given"))
    assert opened(event) == {
        "result_type": "get_info",
        "error": {"code": "OTHER", "message": "amount: must be given"},
        "result": None,
    }


@pytest.mark.parametrize("scheme", list(Encryption))
def test_the_answer_uses_the_scheme_of_the_request(scheme: Encryption) -> None:
    request = Request("e" * 64, NOW, scheme, "get_info", {})
    assert opened(seal({}, request), scheme)["result"] == {}


@pytest.mark.parametrize(("now", "expected"), [(NOW - 100, NOW), (NOW, NOW), (NOW + 1, NOW + 1)])
def test_an_answer_is_never_dated_before_its_request(now: int, expected: int) -> None:
    assert seal({}, now=now).created_at == expected


def test_an_answer_of_the_maximum_size_is_sent() -> None:
    result = result_of(MAX_PLAINTEXT_BYTES)
    assert opened(seal(result))["result"] == result


@pytest.mark.parametrize(
    "result",
    [
        result_of(MAX_PLAINTEXT_BYTES + 1),
        {"a": "漢" * (MAX_PLAINTEXT_BYTES // 3)},
        {"a": '"' * (MAX_PLAINTEXT_BYTES // 2)},
        {"a": "x" * 1_000_000},
    ],
    ids=["one byte", "multibyte", "escaped", "huge"],
)
def test_a_longer_answer_is_replaced_by_an_error(result: dict[str, Any]) -> None:
    body = opened(seal(result))
    assert body["result"] is None
    assert body["error"]["code"] == "INTERNAL"


@pytest.mark.parametrize("scheme", list(Encryption))
def test_rust_nostr_decrypts_an_answer(scheme: Encryption) -> None:
    request = Request("e" * 64, NOW, scheme, "get_info", {})
    theirs = nostr_sdk.Event.from_json(seal({"alias": "é"}, request).to_json())
    assert theirs.verify()
    decrypt = nostr_sdk.nip44_decrypt if scheme is Encryption.NIP44_V2 else nostr_sdk.nip04_decrypt
    secret = nostr_sdk.SecretKey.parse(CLIENT.secret_hex())
    body = json.loads(decrypt(secret, theirs.author(), theirs.content()))
    assert body["result"] == {"alias": "é"}
