"""What can be proved without training: costs, shapes, manifests. `run` does it all, `findings` is what comes out."""
