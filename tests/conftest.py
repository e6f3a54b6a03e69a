"""Settings of all tests."""

from suite.session.compiling import compile_quickly

compile_quickly()
