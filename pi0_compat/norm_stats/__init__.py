"""Norm stats: read and write openpi's and lerobot's, bring one into the other's terms, judge, compare, compute."""
