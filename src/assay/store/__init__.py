"""A run's folder: the ledger, the image store, their digests, and readers of them."""
