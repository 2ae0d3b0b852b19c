"""An app that makes its own key and asks for a connection with a URI, as NWC-08 describes it.

It learns the wallet's key from the info event that names its own key and repeats its state.
"""

import secrets
from types import TracebackType
from typing import Self
from urllib.parse import quote

from nostr_sdk import Keys

from tests.support.app import App
from tests.support.channel import KIND_INFO, Json, RelaySocket, tag


class PairingApp:
    """The app before it is connected.

    Args:
        relay: URL of the relay on which it waits.
        fields: the parameters of its URI beside `relay` and `state`; None leaves one out.

    Attributes:
        keys: of the app.
        state: the random value by which it recognises the answer.
        uri: what it shows to its user.

    """

    def __init__(self, relay: str, **fields: object) -> None:
        self.keys = Keys.generate()
        self.pubkey = self.keys.public_key().to_hex()
        self.state = secrets.token_hex(16)
        self._relay = relay
        given = {"relay": relay, "state": self.state, **fields}
        pairs = [
            (name, quote(str(value), safe="")) for name, value in given.items() if value is not None
        ]
        query = "&".join(f"{name}={value}" for name, value in pairs)
        self.uri = f"nostr+walletauth://{self.pubkey}?{query}"
        self._socket = RelaySocket(relay, {"kinds": [KIND_INFO], "#p": [self.pubkey]})
        self._app: App | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()
        if self._app:
            self._app.close()

    def wait_for_any_info(self) -> Json:
        """Return the first info event for this app, as an app of the older form takes it."""
        return self._socket.received.wait_for(lambda _: True, "an info event")[0]

    def wait_for_info(self) -> Json:
        """Return the info event that repeats the state, once it has come."""
        return self._socket.received.wait_for(
            lambda event: tag(event, "state") == self.state, "the info event with the state"
        )[0]

    def connected(self) -> App:
        """Return the connected app, once the info event has come."""
        if self._app is None:
            wallet = self.wait_for_info()["pubkey"]
            uri = f"nostr+walletconnect://{wallet}?relay={quote(self._relay, safe='')}"
            self._app = App(uri, keys=self.keys)
        return self._app
