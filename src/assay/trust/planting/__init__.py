"""A vulnerability is planted in the model, and attacks have to find it (C11)."""
