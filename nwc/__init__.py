"""Nostr Wallet Connect (NIP-47) for Core Lightning.

nwc/README.md has the map; imports point one way, down that map.
"""

__version__ = "0.2.0"
