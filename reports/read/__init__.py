"""Read result files into records."""
