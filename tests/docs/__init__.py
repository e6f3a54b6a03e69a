"""Tests of the README and of ``docs/``: what they show works, and what they name exists."""
