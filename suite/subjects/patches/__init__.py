"""The reference with patched lines: its faults and its correct variants."""
