"""NIP-47, Nostr Wallet Connect, without I/O: text and events in, values out.

Nothing here opens a socket, calls lightningd or reads the clock: the time is an argument.
"""
