"""Tests of pi0_compat/layouts/orbax."""
