"""Contracts: one file per area, one function per contract; its docstring is the law. See ``suite.session.registry``."""
