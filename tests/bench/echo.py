"""A wallet that answers every request at once, to measure only the way over the relay and back.

    python -m tests.bench.echo RELAY WALLET_SECRET CLIENT_PUBKEY

Like the plugin, it is a process of its own. Its answers are as long as those to make_invoice. It ends at
the end of its standard input.
"""

import asyncio
import contextlib
import json
import secrets
import sys
import time
from collections.abc import Iterator

from websockets.asyncio.client import ClientConnection, connect

from nwc.nip47.kinds import KIND_REQUEST, KIND_RESPONSE
from nwc.nip47.uri import connection_uri
from nwc.nostr.event import sign_event
from nwc.nostr.keys import KeyPair
from nwc.nostr.messages import event_message, req_message
from tests.support.processes import ChildProcess
from tests.support.relay import RunningRelay, standard_input_ends

CONTENT = "A" * 1_100


@contextlib.contextmanager
def running_echo(relay: RunningRelay) -> Iterator[str]:
    """Run such a wallet, and yield its connection URI."""
    wallet, secret = KeyPair.generate(), secrets.token_hex(32)
    client = KeyPair.from_secret(bytes.fromhex(secret))
    arguments = [relay.url, wallet.secret_hex(), client.public_key]
    with ChildProcess([sys.executable, "-m", "tests.bench.echo", *arguments]) as process:
        process.wait_for("^listening$")
        yield connection_uri(wallet.public_key, [relay.url], secret, None)


async def _answer(connection: ClientConnection, wallet: KeyPair, client: str) -> None:
    """Answer each request, and print a line once the subscription is established."""
    async for text in connection:
        match json.loads(text):
            case ["EVENT", _, request]:
                tags = [["p", client], ["e", request["id"]]]
                now = int(time.time())
                response = sign_event(
                    wallet, kind=KIND_RESPONSE, content=CONTENT, tags=tags, created_at=now
                )
                await connection.send(event_message(response))
            case ["EOSE", _]:
                print("listening", flush=True)


async def _main(relay: str, secret: str, client: str) -> None:
    wallet = KeyPair.from_secret(bytes.fromhex(secret))
    filter_ = {"kinds": [KIND_REQUEST], "authors": [client], "#p": [wallet.public_key]}
    async with connect(relay, compression=None) as connection:
        answering = asyncio.create_task(_answer(connection, wallet, client))
        await connection.send(req_message("requests", filter_))
        await standard_input_ends()
        answering.cancel()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
