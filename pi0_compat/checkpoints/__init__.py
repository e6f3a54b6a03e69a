"""Work on whole checkpoints: inspect, check, diff, convert, fold, extract, attach."""
