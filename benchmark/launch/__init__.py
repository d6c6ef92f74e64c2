"""Where runs are carried out: in this process, and later on a cluster."""
