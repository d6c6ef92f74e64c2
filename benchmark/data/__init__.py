"""Data sets: finding, loading, subsets, and augmentation in batch on the device."""
