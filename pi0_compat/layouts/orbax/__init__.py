"""openpi's own layout: orbax checkpoints, read and written."""
