"""A subject in a process or interpreter of its own."""
