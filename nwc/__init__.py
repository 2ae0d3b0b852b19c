"""Nostr Wallet Connect (NIP-47) for Core Lightning.

Imports point one way:
plugin.py, nwc.py → main → runner, commands → service → wallet → cln, nip47 → nostr.
"""

__version__ = "0.1.0"
