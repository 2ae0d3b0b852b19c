"""Helpers of several unit tests: keys, request events, arbitrary JSON."""

import asyncio
import json
import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

from nwc.nip47.encryption import Cipher, Encryption
from nwc.nip47.kinds import KIND_REQUEST
from nwc.nostr.event import Event, sign_event
from nwc.nostr.keys import KeyPair
from tests.support.waiting import PATIENCE_S

NOW = 1_750_000_000
WALLET = KeyPair.generate()
CLIENT = KeyPair.generate()
STRANGER = KeyPair.generate()

# Prefix of a command that must obey file modes. Root could read and write everything without it.
OBEYING_FILE_MODES: tuple[str, ...] = ()
if os.geteuid() == 0:
    OBEYING_FILE_MODES = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")

# Values that `json.loads` can return, also NaN, infinity and lone surrogates.
ANY_TEXT = st.text(st.characters(), max_size=30)
JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | ANY_TEXT
    | st.sampled_from(["", "\0", "\ud800", "1", "true", "٣", "ff" * 32]),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(ANY_TEXT, children, max_size=4),
    max_leaves=12,
)


def cipher_of_client() -> Cipher:
    """Return the cipher of the client."""
    return Cipher(CLIENT, WALLET.public_key)


def cipher_of_wallet() -> Cipher:
    """Return the cipher of the wallet service."""
    return Cipher(WALLET, CLIENT.public_key)


def request_event(
    plaintext: str | dict[str, Any] = '{"method":"get_info"}',
    *,
    scheme: Encryption = Encryption.NIP44_V2,
    encryption_tag: str | None = "nip44_v2",
    content: str | None = None,
    keys: KeyPair = CLIENT,
    recipient: str = WALLET.public_key,
    created_at: int = NOW,
    kind: int = KIND_REQUEST,
    more_tags: Sequence[Sequence[str]] = (),
) -> Event:
    """Return a signed request event of the client."""
    text = plaintext if isinstance(plaintext, str) else json.dumps(plaintext)
    if content is None:
        content = cipher_of_client().encrypt(scheme, text)
    tags = [["p", recipient], *more_tags]
    if encryption_tag is not None:
        tags.append(["encryption", encryption_tag])
    return sign_event(keys, kind=kind, content=content, tags=tags, created_at=created_at)


def as_json(event: Event) -> dict[str, Any]:
    """Return an event as JSON values."""
    value: dict[str, Any] = json.loads(event.to_json())
    return value


async def until(condition: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
    """Wait until a condition holds, by polling; raise TimeoutError after `timeout_s` seconds."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


class Errors(logging.Handler):
    """A handler that keeps what is logged at level ERROR. Tests check that there is nothing."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(self.format(record))
