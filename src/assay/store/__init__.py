"""A run's folder: the ledger, the images, their digests, and everything that only reads them."""
