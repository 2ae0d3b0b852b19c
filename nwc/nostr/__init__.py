"""Nostr: keys, events (NIP-01), ciphers (NIP-04, NIP-44), relay connections.

Knows no wallet, no NIP-47 and no lightningd. Of the rest of `nwc` it imports only `nwc.errors`."""
