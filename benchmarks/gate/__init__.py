"""The regression gate: measure two revisions of a loader side by side in one run and decide on one verdict."""
