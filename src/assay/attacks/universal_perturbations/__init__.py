"""Universal attacks: one perturbation for many images."""
