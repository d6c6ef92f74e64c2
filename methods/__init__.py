"""One file a method. `base` is the interface, `registry` finds them without importing torch."""
