"""Adapters of implementations that nobody here wrote. Each runs in another interpreter, with its siblings and numpy."""
