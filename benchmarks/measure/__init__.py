"""Measure one operation of one subject in a fresh process."""
