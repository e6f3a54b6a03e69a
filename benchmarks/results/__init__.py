"""Result files: writing, rules, validity, summaries, tables."""
