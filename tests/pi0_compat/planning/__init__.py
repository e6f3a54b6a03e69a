"""Tests of pi0_compat/training."""
