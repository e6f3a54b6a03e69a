"""Tools for writing contracts: assertions, shared values, Hypothesis strategies."""
