"""The NIP-47 methods, one module each."""
