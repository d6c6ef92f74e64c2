"""What is published, and how it is judged: suites, recipes, data sets, claims, rules."""
