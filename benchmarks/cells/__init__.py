"""Definition of the measurements: cells, sizes, checkpoints, FLOPs, expected values."""
