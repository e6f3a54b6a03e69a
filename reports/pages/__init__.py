"""Records into pages of text."""
