"""Carlini & Wagner: the least l2, linf and l0 distance."""
