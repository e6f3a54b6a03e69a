"""Checkpoint layouts, one file each: where the arrays of a file are in openpi's parameter tree, read and written."""
