"""Show faults to contracts (mutation testing), record who catches what, and fuzz subjects."""
