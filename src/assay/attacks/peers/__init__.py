"""Attacks of other libraries, run and measured by assay's engine."""
