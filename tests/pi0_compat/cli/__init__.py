"""Tests of the command ``pi0-compat`` as a user runs it."""
