"""The engine: runs any attack on any classifier, and measures the results itself."""
