"""Result files in, pages out. Imports nothing of the project: it reads files that match ``schema/``."""
