"""Networks for ImageNet, one family a file."""
