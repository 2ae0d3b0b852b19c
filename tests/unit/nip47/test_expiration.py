import pytest

from nwc.nip47.errors import ErrorCode, Nip47Error
from nwc.nip47.expiration import check_expiration, has_expired
from tests.unit.helpers import NOW, request_event


@pytest.mark.parametrize(
    ("tags", "expiration"),
    [
        ([], None),
        ([["expiration"]], None),
        ([["expiration", "0"]], 0),
        ([["expiration", str(NOW)]], NOW),
        ([["expiration", "1"], ["expiration", "2"]], 1),
        ([["expiration", "999999999999"]], 999_999_999_999),
    ],
)
def test_a_request_expires_after_the_second_in_its_first_tag(
    tags: list[list[str]], expiration: int | None
) -> None:
    event = request_event(more_tags=tags)
    check_expiration(event)
    assert has_expired(event, NOW) is (expiration is not None and expiration < NOW)
    if expiration is not None:
        assert not has_expired(event, expiration)
        assert has_expired(event, expiration + 1)


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", "1e3", " 1", "٣", "²", "9" * 13, "1" * 1000])
def test_a_malformed_expiration_is_an_error_and_no_reason_to_ignore_a_request(text: str) -> None:
    event = request_event(more_tags=[["expiration", text]])
    with pytest.raises(Nip47Error, match="expiration") as refused:
        check_expiration(event)
    assert refused.value.code == ErrorCode.OTHER
    assert not has_expired(event, NOW)
