"""The NIP-47 methods, one module each; nwc/nip47/methods.py lists them and says how to add one."""
