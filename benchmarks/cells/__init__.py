"""What is measured: cells, sizes, checkpoints, FLOPs, expected values."""
