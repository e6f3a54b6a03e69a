"""The machine that measures: its devices and what it can do at most."""
