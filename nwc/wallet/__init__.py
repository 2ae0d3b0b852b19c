"""What a request does: connections and what they may do, and one module per NIP-47 method."""
