"""Tests of pi0_compat/model."""
