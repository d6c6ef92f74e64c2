"""What is published: suites, recipes, claims, rules."""
