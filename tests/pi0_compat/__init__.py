"""Unit and property tests of the reference implementation, one file a module."""
