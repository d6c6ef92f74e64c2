"""Networks and their adapters: which module of a family plays which tap role."""
