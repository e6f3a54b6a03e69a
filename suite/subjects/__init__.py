"""Implementations under test, one adapter a file; ``protocol`` says what an adapter is, ``find`` gets one by name."""
