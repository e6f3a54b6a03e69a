"""What is done to whole checkpoints: inspect, check, diff, convert, fold, extract, attach."""
