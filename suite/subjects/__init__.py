"""Implementations under test, one harness a file; ``protocol`` says what a harness is, ``find`` gets one by name."""
