"""Tests of pi0_compat/loading."""
