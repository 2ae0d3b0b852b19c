"""sign_message (as Alby Hub): sign a text with the node's key.

It is allowed only where the owner names it: whoever has such a signature can log in as the node. No
signature of this kind is valid for anything else of Lightning or Bitcoin, since lightningd signs the
double SHA-256 of "Lightning Signed Message:" and the text.
"""

from typing import Any

from nwc.nip47 import params
from nwc.nip47.errors import refuse
from nwc.nostr.encoding import to_json
from nwc.wallet.context import Call, Wallet

# lightningd signs up to 65,535 bytes. The answer repeats the message, and must fit into an event.
MAX_MESSAGE_BYTES = 32_768


def parse_params(given: params.Params) -> str:
    """Return the message of a request, at least one character.

    `signmessage` signs its parameter as it is in the JSON of the call, with its escapes. So a message in
    which JSON escapes anything would get the signature of another text: of a backslash and an n instead
    of a line break. Such messages are refused.

    Raises:
        Nip47Error: OTHER, with the field, its rule and the value that was given.

    """
    message = params.text(given, "message", max_bytes=MAX_MESSAGE_BYTES)
    if message is None:
        refuse("message: must be a text of at least one character")
    if to_json(message) != f'"{message}"':
        refuse(
            "message: must have no quotation marks, backslashes and line breaks, nor other control "
            "characters; lightningd cannot sign these"
        )
    return message


async def sign_message(wallet: Wallet, call: Call) -> dict[str, Any]:
    """Return the message and its signature: zbase32, as lightningd and LND check it.

    Raises:
        Nip47Error: OTHER for an invalid message.
        NodeError: lightningd is unavailable.

    """
    message = parse_params(call.params)
    return {"message": message, "signature": await wallet.node.sign_message(message)}
