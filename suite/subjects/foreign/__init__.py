"""Harnesses of implementations from elsewhere. Each runs in another interpreter, with its siblings and numpy."""
