"""Tests of pi0_compat/storage."""
