"""What is demanded of a pi0 loader, and of whom: contracts, subjects, and the reference implementation."""
