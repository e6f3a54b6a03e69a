"""Contracts for pi0 loaders, and the subjects that they test: the reference implementation and others."""
