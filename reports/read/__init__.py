"""Result files into records."""
