"""`make demo`: a real NWC client asks a node for invoices and shows each step."""
