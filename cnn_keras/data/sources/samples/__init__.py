"""Sample data that comes with this package or with others: small, real, and there without a network."""
