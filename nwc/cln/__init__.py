"""Lightningd: the RPC calls the plugin makes, its errors, the options, and BOLT11 strings.

Nothing of Nostr events or of wallets; the nwc-* commands are in nwc/commands/.
"""
