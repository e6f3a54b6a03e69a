"""Records into charts."""
