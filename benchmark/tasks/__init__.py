"""The tasks: the data, loss and metrics of each."""
