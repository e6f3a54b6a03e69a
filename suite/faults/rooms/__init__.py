"""The faults, one file per area."""
