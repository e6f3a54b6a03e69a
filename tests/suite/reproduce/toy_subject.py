"""An implementation with silent faults, its harness, its template, and laws for it, as text."""

IMPLEMENTATION = '''
"""Reads arrays, and doubles the first number of ``w`` without a word."""

import numpy as np


def read(path):
    with np.load(path) as file:
        found = {name: x.astype(np.float32) for name, x in file.items()}
    if "crash" in found:
        raise KeyError("crash")
    if "w" in found:
        found["w"][0] *= 2
    return found
'''

HARNESS = """
import toy_reader

NAME = "toy"
TRAITS = ("openpi",)


def describe():
    return {"version": "1.5", "packages": {}, "device": "cpu"}


def restore(path, dtype):
    return toy_reader.read(path)


def load(model, source, seed):
    return {"params": toy_reader.read(source["path"]), "report": None}


def param_spec(model):
    return {}
"""

TEMPLATE = '''
from suite.reproduce.template import Template

SETUP = """
import toy_reader
import unneeded


def unneeded_too():
    return unneeded
"""
RESTORE = """
def restore(path, dtype=None):
    return toy_reader.read(path)
"""
LOAD = """
def load(path):
    return toy_reader.read(path)
"""
STORED = """
def stored(path):
    return dict(np.load(path))
"""
TEMPLATE = Template(
    packages=("toy", "numpy"),
    setup=SETUP,
    calls={"restore": RESTORE, "load": LOAD, "stored": STORED},
    unused=("model", "seed"),
)
'''

LAWS = '''
import numpy as np
import pytest

from suite.session.registry import contract
from suite.writing.asserts import assert_same_bits, refused

NEEDS = {"source": "a toy", "needs": ("restore",)}


def written(folder, **arrays):
    np.savez(folder / "numbers.npz", **arrays)
    return str(folder / "numbers.npz")


@contract(**NEEDS)
@pytest.mark.parametrize("length", [3, 5])
def test_numbers_come_back(subject, tmp_path, length):
    """What is read is what was written."""
    numbers = {"b": np.ones(2, np.float32), "w": np.arange(1, length, dtype=np.float32)}
    assert_same_bits(subject.restore(written(tmp_path, **numbers), None), numbers)


@contract(**NEEDS)
def test_codes_are_refused(subject, tmp_path):
    """Integers are no weights."""
    path = written(tmp_path, b=np.array([7, -9], np.int8))
    with refused("b", "int8"):
        subject.load({"family": "pi0"}, {"kind": "openpi", "path": path}, seed=0)


@contract(**NEEDS)
def test_sum_is_right(subject, tmp_path):
    """A law with an assertion of its own."""
    assert subject.restore(written(tmp_path, w=np.ones(2)), None)["w"].sum() == 2


@contract(**NEEDS)
def test_mean_is_right(subject, tmp_path):
    """A law that computes what it compares."""
    found = subject.restore(written(tmp_path, w=np.ones(2)), None)
    assert_same_bits({"mean": found["w"].mean()}, {"mean": np.float32(1)})


@contract(**NEEDS)
def test_crash(subject, tmp_path):
    """A law that ends in a crash."""
    subject.restore(written(tmp_path, crash=np.ones(2)), None)


@contract(**NEEDS)
def test_good(subject, tmp_path):
    """A law that holds."""
    subject.restore(written(tmp_path, b=np.ones(2)), None)


@contract(source="a toy", needs=("param_spec",))
def test_anything_is_refused(subject):
    """A law about an operation that the template does not call."""
    with refused("sizes"):
        subject.param_spec({"family": "pi0"})
'''
