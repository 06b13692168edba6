"""StrAttack, and what refines its images."""
