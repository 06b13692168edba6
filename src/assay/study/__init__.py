"""Studies: models, data, attacks, questions and claims from one YAML file."""
