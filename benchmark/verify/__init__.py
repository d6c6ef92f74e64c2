"""Checks without training: costs, shapes, manifests. `run` does them all, `findings` holds the results."""
