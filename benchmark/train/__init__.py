"""Training: from an experiment to its record."""
