"""CIRKD's segmentation networks, one family a file."""
