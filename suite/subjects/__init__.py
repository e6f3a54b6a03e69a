"""Implementations under test, one harness per file; ``protocol`` says what a harness is."""
