"""Records against published numbers: verdicts."""
