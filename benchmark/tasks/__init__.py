"""What a task brings: its data, its loss and its metrics."""
