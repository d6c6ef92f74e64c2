"""The commands, one module each. Each imports what it needs when it is called, so that `--help` answers at once."""
