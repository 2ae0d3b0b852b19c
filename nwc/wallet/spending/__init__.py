"""Money that goes out: budgets, the ledger of each connection, payments and what is kept of them."""
