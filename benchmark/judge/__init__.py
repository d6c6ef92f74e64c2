"""Compare records with published numbers, and give verdicts."""
