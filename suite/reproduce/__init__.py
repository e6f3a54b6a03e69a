"""Turn a silent failure of a subject into a script that needs nothing of this project, and an issue that says it."""
