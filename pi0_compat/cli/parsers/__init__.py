"""The parsers of the commands, one file a command: help text, examples, arguments.

They are apart from what the commands do, so that help needs neither numpy nor a checkpoint library.
"""
