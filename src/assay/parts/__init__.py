"""What attacks are made of: sets of perturbations, losses, step rules, searches."""
