"""Tests of ``pi0_compat.doctor``."""
