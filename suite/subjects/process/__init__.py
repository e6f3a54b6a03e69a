"""Subjects in a process or an interpreter of their own, and the one RPC that reaches them (``rpc``)."""
