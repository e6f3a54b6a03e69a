"""Tests of pi0_compat/norm_stats."""
