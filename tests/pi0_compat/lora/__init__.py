"""Tests of pi0_compat/lora."""
