"""Ask an interpreter which silent faults its libraries have."""
