"""Tests of benchmarks/gate."""
