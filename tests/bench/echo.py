"""A wallet that answers at once, whatever is asked: what is left is the way there and back.

    python -m tests.bench.echo RELAY WALLET_SECRET CLIENT_PUBKEY

A process of its own, as the plugin is. The answer is as long as that to make_invoice. It ends when its
standard input does.
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
from tests.support.small_reads import read_little

CONTENT = "A" * 1_100


@contextlib.contextmanager
def running_echo(relay: RunningRelay) -> Iterator[str]:
    """Run it, and give the connection URI that reaches it."""
    wallet, secret = KeyPair.generate(), secrets.token_hex(32)
    client = KeyPair.from_secret(bytes.fromhex(secret))
    arguments = [relay.url, wallet.secret_hex(), client.public_key]
    with ChildProcess([sys.executable, "-m", "tests.bench.echo", *arguments]) as process:
        process.wait_for("^listening$")
        yield connection_uri(wallet.public_key, [relay.url], secret, None)


async def answer(connection: ClientConnection, wallet: KeyPair, client: str) -> None:
    """Answer what comes."""
    async for frame in connection:
        match json.loads(frame):
            case ["EVENT", _, request]:
                tags = [["p", client], ["e", request["id"]]]
                now = int(time.time())
                made = sign_event(wallet, kind=KIND_RESPONSE, content=CONTENT, tags=tags, created_at=now)
                await connection.send(event_message(made))
            case ["EOSE", _]:
                print("listening", flush=True)


async def _main(relay: str, secret: str, client: str) -> None:
    wallet = KeyPair.from_secret(bytes.fromhex(secret))
    async with connect(relay, compression=None) as connection:
        read_little(connection)
        wanted = {"kinds": [KIND_REQUEST], "authors": [client], "#p": [wallet.public_key]}
        await connection.send(req_message("requests", wanted))
        answering = asyncio.create_task(answer(connection, wallet, client))
        await standard_input_ends()
        answering.cancel()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
