"""What every task's training step is made of."""
