"""Helpers that know nothing of attacks: arguments, files, text, progress. Not part of a result's identity."""
