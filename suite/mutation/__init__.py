"""Mutation testing of the contracts: which contract catches which fault. Also fuzzes subjects."""
