"""Tests of the suite itself: plugin, registry, subjects, fixtures, results; `reference/` has those of the reference."""
