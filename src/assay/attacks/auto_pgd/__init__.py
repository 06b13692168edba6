"""Auto-PGD: APGD for linf, l2 and l1."""
