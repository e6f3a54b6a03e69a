"""Tests of the project, in folders that mirror its tree."""
