"""Format records as pages."""
