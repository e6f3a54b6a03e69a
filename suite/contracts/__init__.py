"""The laws: one file an area, one function a contract, its docstring the law. ``registry`` has the rules."""
