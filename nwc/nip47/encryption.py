"""NIP-47, "Encryption": the scheme of a request, and the keys of a connection for each scheme."""

from enum import StrEnum

from nwc.nostr import nip04, nip44
from nwc.nostr.event import Event
from nwc.nostr.keys import KeyPair


class Encryption(StrEnum):
    """The supported schemes, best first, by their names in an `encryption` tag."""

    NIP44_V2 = "nip44_v2"
    NIP04 = "nip04"


_BY_NAME = {str(scheme): scheme for scheme in Encryption}


def named_encryption(event: Event) -> Encryption | None:
    """Return the scheme that a request names: NIP-04 without a tag, None for an unknown name."""
    name = event.tag("encryption")
    return Encryption.NIP04 if name is None else _BY_NAME.get(name)


def encryption_of(content: str) -> Encryption:
    """Return the scheme of an encrypted content, judged by the content alone.

    Some clients leave the tag out, or name another scheme than they use. NIP-04 has a question mark
    before the IV. NIP-44 is base64, which has none.
    """
    return Encryption.NIP04 if "?" in content else Encryption.NIP44_V2


class Cipher:
    """Encrypts and decrypts between one wallet key and one client key.

    Each conversation key costs one ECDH, so it is computed once, when it is first needed.
    """

    def __init__(self, keys: KeyPair, peer: str) -> None:
        self._keys = keys
        self.peer = peer
        self._conversation_keys: dict[Encryption, bytes] = {}

    def encrypt(self, scheme: Encryption, plaintext: str) -> str:
        """Encrypt for the peer.

        Raises:
            ValueError: the text is empty or longer than the scheme allows.

        """
        key = self._key(scheme)
        if scheme is Encryption.NIP44_V2:
            return nip44.encrypt(plaintext, key)
        return nip04.encrypt(plaintext, key)

    def decrypt(self, scheme: Encryption, payload: str) -> str:
        """Decrypt what the peer sent.

        Raises:
            DecryptionError: the payload is not of this scheme or not for this pair of keys.

        """
        key = self._key(scheme)
        if scheme is Encryption.NIP44_V2:
            return nip44.decrypt(payload, key)
        return nip04.decrypt(payload, key)

    def _key(self, scheme: Encryption) -> bytes:
        key = self._conversation_keys.get(scheme)
        if key is None:
            derive = nip44.conversation_key if scheme is Encryption.NIP44_V2 else nip04.shared_key
            key = self._conversation_keys[scheme] = derive(self._keys, self.peer)
        return key
