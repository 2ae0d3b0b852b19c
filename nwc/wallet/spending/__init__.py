"""Money that goes out: the ledger of each connection, its payments, and their records."""
