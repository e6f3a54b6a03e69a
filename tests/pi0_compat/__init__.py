"""Unit and property tests of the library, one file for each module."""
