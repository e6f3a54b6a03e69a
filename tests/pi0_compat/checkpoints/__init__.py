"""Tests of pi0_compat/checkpoints."""
