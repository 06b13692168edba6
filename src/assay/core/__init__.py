"""The contract of assay: rows, goals, models, attacks and outcomes, as every other part sees them."""
