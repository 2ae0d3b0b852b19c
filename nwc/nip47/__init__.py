"""NIP-47, Nostr Wallet Connect, as pure functions: text and events in, values out.

No socket, no lightningd, and no clock of its own: the time comes in as an argument.
"""
