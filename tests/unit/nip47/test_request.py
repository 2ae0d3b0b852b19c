import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nwc.nip47.encryption import Encryption
from nwc.nip47.errors import ErrorCode
from nwc.nip47.request import MAX_METHOD_LENGTH, UNKNOWN_METHOD, Request, open_request
from tests.unit.helpers import (
    JSON_VALUES,
    NOW,
    STRANGER,
    cipher_of_client,
    cipher_of_wallet,
    request_event,
)

CIPHER = cipher_of_wallet()


def opened(plaintext: str | dict[str, Any], **changes: Any) -> Request:
    return open_request(request_event(plaintext, **changes), CIPHER)


def problem(request: Request) -> tuple[ErrorCode, str]:
    assert request.error is not None
    assert len(request.error.message) < 200
    return request.error.code, request.error.message


@pytest.mark.parametrize("scheme", list(Encryption))
def test_a_valid_request_is_opened(scheme: Encryption) -> None:
    event = request_event(
        {"method": "make_invoice", "params": {"amount": 1}, "more": 1},
        scheme=scheme,
        encryption_tag=scheme,
    )
    assert open_request(event, CIPHER) == Request(
        event.id, NOW, scheme, "make_invoice", {"amount": 1}, None
    )


@pytest.mark.parametrize("tag", [None, *Encryption])
@pytest.mark.parametrize("scheme", list(Encryption))
def test_the_content_decides_the_scheme_whatever_the_tag_says(
    scheme: Encryption, tag: str | None
) -> None:
    """Some clients leave the tag out; the answer uses the scheme of the content."""
    request = opened({"method": "get_info"}, scheme=scheme, encryption_tag=tag)
    assert (request.encryption, request.method, request.error) == (scheme, "get_info", None)


@pytest.mark.parametrize(
    "body", [{"method": "x"}, {"method": "x", "params": None}, {"method": "x", "params": []}]
)
def test_params_may_be_absent(body: dict[str, Any]) -> None:
    request = opened(body)
    assert (request.method, request.params, request.error) == ("x", {}, None)


@pytest.mark.parametrize(
    "plaintext",
    [
        "x",
        "null",
        "5",
        '"get_info"',
        "[]",
        '["get_info"]',
        "{",
        '{"method":"get_info"} x',
        "{'method':'get_info'}",
        '{"method":"get_info","params":{"amount":NaN}}',
        '{"method":"get_info","params":{"amount":Infinity}}',
        '{"method":"get_info","params":{"amount":-Infinity}}',
        '{"method":"get_info","params":{"amount":' + "9" * 5000 + "}}",
        "[" * 60_000,
        "\ufeff{}",
        "\x00",
    ],
)
def test_a_request_that_is_no_json_object_gets_an_error(plaintext: str) -> None:
    request = opened(plaintext)
    assert request.method == UNKNOWN_METHOD
    assert problem(request) == (
        ErrorCode.OTHER,
        "request: must be a JSON object with method and params",
    )


@pytest.mark.parametrize(
    "plaintext",
    [
        '{"method":"get_info","params":' + "[" * 20_000 + "]" * 20_000 + "}",
        '{"a":' * 10_000 + "1" + "}" * 10_000,
    ],
)
def test_deeply_nested_json_gets_an_error(plaintext: str) -> None:
    """Python 3.14 parses it and earlier versions do not, so the messages differ."""
    assert problem(opened(plaintext))[0] is ErrorCode.OTHER


@pytest.mark.parametrize(
    "method",
    [None, 5, True, [], {}, "", "x" * (MAX_METHOD_LENGTH + 1), "é", "a\nb", "\x00", "\ud800", "\x7f"],
)
def test_a_malformed_method_gets_an_error(method: object) -> None:
    request = opened({"method": method})
    assert request.method == UNKNOWN_METHOD
    code, message = problem(request)
    assert code == ErrorCode.OTHER
    assert message.startswith("method: must be ")


@pytest.mark.parametrize("method", ["get_info", "x" * MAX_METHOD_LENGTH, "no such thing", "pay invoice"])
def test_an_unknown_method_is_no_error_here(method: str) -> None:
    assert opened({"method": method}).method == method
    assert opened({"method": method}).error is None


@pytest.mark.parametrize("params", [5, True, "x", [{}], [[]], 0, "", False])
def test_params_that_are_no_object_get_an_error(params: object) -> None:
    request = opened({"method": "get_info", "params": params})
    assert request.method == "get_info"  # so that the answer has the right result_type
    assert problem(request) == (ErrorCode.OTHER, "params: must be a JSON object")


def test_odd_values_in_params_are_left_to_the_methods() -> None:
    params = '{"a":1e999,"b":"\\ud800","c":18446744073709551616,"d":1e3,"a2":{"a":[[[1]]]}}'
    request = opened('{"method":"x","params":' + params + "}")
    assert request.error is None
    assert request.params == json.loads(params)


@pytest.mark.parametrize("expiration", ["", "soon", "-1", "1.5", "9" * 13])
def test_a_malformed_expiration_gets_an_error(expiration: str) -> None:
    request = opened({"method": "get_info"}, more_tags=[["expiration", expiration]])
    code, message = problem(request)
    assert (request.method, code) == ("get_info", ErrorCode.OTHER)
    assert "expiration" in message
    assert "Unix timestamp" in message


@pytest.mark.parametrize("tag", ["nip44_v3", "", "nip44_v2 nip04", "rot13", "x" * 1000])
def test_unknown_encryption_is_answered_in_nip44(tag: str) -> None:
    request = opened({"method": "get_info"}, encryption_tag=tag)
    assert request.encryption is Encryption.NIP44_V2
    assert request.method == "get_info"
    assert problem(request) == (
        ErrorCode.UNSUPPORTED_ENCRYPTION,
        "encryption: must be one of nip44_v2, nip04",
    )


@pytest.mark.parametrize("content", ["", "x", cipher_of_client().encrypt(Encryption.NIP44_V2, "[]")])
def test_unknown_encryption_that_cannot_be_decrypted_is_answered_too(content: str) -> None:
    request = opened("", content=content, encryption_tag="rot13")
    assert (request.method, request.params) == (UNKNOWN_METHOD, {})
    assert problem(request)[0] == ErrorCode.UNSUPPORTED_ENCRYPTION


NOT_FOR_US = cipher_of_client().encrypt(Encryption.NIP44_V2, '{"method":"get_info"}')[:-4] + "AAA="


@pytest.mark.parametrize(
    "content",
    [
        "",
        "x",
        '{"method":"get_info"}',
        "é" * 200,
        "#" + "A" * 200,
        "A" * 200,
        "A?iv=A",
        "?",
        "?iv=",
        NOT_FOR_US,
        cipher_of_client().encrypt(Encryption.NIP04, "{}").replace("?iv=", "?iv"),
    ],
)
@pytest.mark.parametrize(
    ("tag", "scheme"),
    [(None, Encryption.NIP04), ("nip04", Encryption.NIP04), ("nip44_v2", Encryption.NIP44_V2)],
)
def test_content_that_cannot_be_decrypted_gets_an_error(
    content: str, tag: str | None, scheme: Encryption
) -> None:
    """Its author is known and has signed it, and waits up to a minute for an answer."""
    request = opened("", content=content, encryption_tag=tag)
    assert (request.encryption, request.method, request.params) == (scheme, UNKNOWN_METHOD, {})
    assert problem(request) == (
        ErrorCode.OTHER,
        "content: must be encrypted with nip44_v2 or nip04, for the client's key and this connection's "
        "wallet key",
    )


def test_a_request_to_another_wallet_cannot_be_decrypted() -> None:
    event = request_event({"method": "get_info"}, keys=STRANGER)
    assert open_request(event, CIPHER).method == "get_info"  # the gate checks the author
    assert open_request(event, type(CIPHER)(STRANGER, STRANGER.public_key)).error is not None


@settings(max_examples=150)
@given(
    plaintext=st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
    | st.builds(json.dumps, JSON_VALUES)
    | st.builds(
        lambda method, params: json.dumps({"method": method, "params": params}), JSON_VALUES, JSON_VALUES
    ),
    scheme=st.sampled_from(list(Encryption)),
)
def test_any_plaintext_gives_a_request_or_an_error(plaintext: str, scheme: Encryption) -> None:
    request = opened(plaintext, scheme=scheme, encryption_tag=scheme)
    assert request.encryption is scheme
    assert isinstance(request.params, dict)
    assert request.method.isascii()
    assert 0 < len(request.method) <= MAX_METHOD_LENGTH
    if request.error is not None:
        assert problem(request)[0] == ErrorCode.OTHER


@settings(max_examples=150)
@given(
    content=st.text(st.characters(exclude_categories=["Cs"])),
    tag=st.none()
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.sampled_from(list(Encryption)),
)
def test_any_content_gives_an_error(content: str, tag: str | None) -> None:
    assert opened("", content=content, encryption_tag=tag).error is not None
