"""The commands `signmessage` and `checkmessage`, after lightningd/signmessage.c.

A signature is of the double SHA-256 of "Lightning Signed Message:" and the message, in zbase32. The
public key can be recovered from it. The message is the parameter as in the JSON of the call, with its
escapes.
"""

import hashlib
import json
from typing import TYPE_CHECKING

from coincurve import PrivateKey, PublicKey

from tests.double import params
from tests.double.jsonio import Json
from tests.double.params import INVALID_PARAMS, Param, RpcError, opt

if TYPE_CHECKING:
    from tests.double.node import Node

PUBKEY_NOT_FOUND = 1301
MAX_MESSAGE_BYTES = 65_535
_ZBASE32 = "ybndrfg8ejkmcpqxot1uwisza345h769"
_SIGNATURE_BYTES = 65
_FIRST_BYTE = 31  # plus the recovery id


def digest(message: bytes) -> bytes:
    """Return the hash that is signed."""
    return hashlib.sha256(hashlib.sha256(b"Lightning Signed Message:" + message).digest()).digest()


def to_zbase32(data: bytes) -> str:
    """Return the digits of some bytes; five bits each."""
    bits = "".join(f"{byte:08b}" for byte in data)
    return "".join(_ZBASE32[int(bits[at : at + 5].ljust(5, "0"), 2)] for at in range(0, len(bits), 5))


def from_zbase32(text: str) -> bytes:
    """Return the bytes of some digits. Raise ValueError for any other character."""
    bits = "".join(f"{_ZBASE32.index(digit):05b}" for digit in text)
    return bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits) // 8 * 8, 8))


def signer_of(message: bytes, zbase: str) -> str:
    """Return the public key, in hex, that has made a signature. Raise ValueError if none can have."""
    signature = from_zbase32(zbase)
    if len(signature) != _SIGNATURE_BYTES:
        raise ValueError("a signature has 65 bytes")
    recoverable = signature[1:] + bytes([signature[0] - _FIRST_BYTE])
    key = PublicKey.from_signature_and_message(recoverable, digest(message), hasher=None)
    return bytes(key.format()).hex()


def _as_in_json(message: str) -> bytes:
    return json.dumps(message, ensure_ascii=False)[1:-1].encode()


def signmessage(node: "Node", message: str) -> Json:
    """Sign a text with the node's key."""
    text = _as_in_json(message)
    if len(text) > MAX_MESSAGE_BYTES:
        raise RpcError(INVALID_PARAMS, "Message must be < 64k")
    signed = PrivateKey(node.key).sign_recoverable(digest(text), hasher=None)
    recovery_id = signed[-1]
    return {
        "signature": signed[:-1].hex(),
        "recid": f"{recovery_id:02x}",
        "zbase": to_zbase32(bytes([_FIRST_BYTE + recovery_id]) + signed[:-1]),
    }


def checkmessage(node: "Node", message: str, zbase: str, pubkey: str | None) -> Json:
    """Say who has signed a text. The double knows no other nodes."""
    try:
        signer = signer_of(_as_in_json(message), zbase)
    except ValueError as error:
        raise RpcError(INVALID_PARAMS, "zbase is not valid zbase32") from error
    if pubkey is None:
        raise RpcError(PUBKEY_NOT_FOUND, "pubkey not found in the graph", {"claimed_key": signer})
    return {"pubkey": signer, "verified": signer == pubkey}


COMMANDS = {
    "signmessage": (signmessage, Param("message", params.string)),
    "checkmessage": (
        checkmessage,
        Param("message", params.string),
        Param("zbase", params.string),
        opt("pubkey", params.node_id),
    ),
}
