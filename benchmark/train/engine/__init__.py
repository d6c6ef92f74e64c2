"""The parts of a training step, for every task."""
