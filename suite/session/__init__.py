"""The pytest session: plugin, subjects by name, expectations, verdicts, result rows and terminal summary."""
