"""Networks for CIFAR, one family a file."""
