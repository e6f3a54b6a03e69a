"""lerobot's policy folder: config, weights, processors with their statistics, and a model card."""
