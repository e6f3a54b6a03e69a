"""One template per implementation: see ``suite/reproduce/template.py``."""
