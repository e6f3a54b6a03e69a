"""Foreign checkpoint layouts, one file each: where a file's arrays go in openpi's parameter tree."""
