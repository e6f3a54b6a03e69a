"""The faults, one file an area."""
