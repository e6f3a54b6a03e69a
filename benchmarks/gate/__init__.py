"""The gate: two revisions of a loader, measured side by side in one run, and one verdict."""
