"""Tests of the command ``pi0-compat``, as a user gives it."""
