import pytest

from nwc.nip47.errors import ErrorCode, Nip47Error
from nwc.wallet.methods.sign_message import MAX_MESSAGE_BYTES, sign_message
from tests.double.signing import signer_of
from tests.unit.in_process import ALICE, World, call, connection

REFUSED: tuple[object, ...] = (
    *(None, "", 7, True, [], {}, ["x"]),
    *('say "x"', "a\\b", "a\nb", "a\r\nb", "a\tb", "\b", "\f", "\0", "a\x01b", "\x1b[31m"),
    *("\ud800", "x" * (MAX_MESSAGE_BYTES + 1), "é" * (MAX_MESSAGE_BYTES // 2 + 1)),
)


async def sign(world: World, params: dict[str, object]) -> dict[str, str]:
    return await sign_message(world.wallet, call(connection(ALICE), params))


@pytest.mark.parametrize(
    "message",
    ["x", "log in: 7f", "é ☕ \N{PILE OF POO}", "a/b'c\x7f\u2028", "x" * MAX_MESSAGE_BYTES, " "],
    ids=lambda text: ascii(text[:9]),
)
async def test_the_signature_is_of_the_message_byte_for_byte(world: World, message: str) -> None:
    signed = await sign(world, {"message": message})
    assert signed.keys() == {"message", "signature"}
    assert signed["message"] == message
    assert signer_of(message.encode(), signed["signature"]) == world.node.lightningd.id


@pytest.mark.parametrize(
    "params",
    [
        {},
        *({"message": message} for message in REFUSED),
    ],
    ids=lambda params: ascii(params)[:40],
)
async def test_what_lightningd_would_sign_otherwise_is_refused_without_a_call(
    world: World, params: dict[str, object]
) -> None:
    with pytest.raises(Nip47Error, match="OTHER: message: must") as refused:
        await sign(world, params)
    assert refused.value.code == ErrorCode.OTHER
    assert world.node.calls == []
