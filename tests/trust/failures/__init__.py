"""Planted failures: evaluations whose number is too high, each with the number that is true."""
