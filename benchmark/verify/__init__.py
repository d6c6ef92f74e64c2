"""Checks without training: costs, shapes, manifests. `run` runs all of them, `findings` has the types of results."""
