"""PEFT on transformers' pi0: what it computes needs a model of many parts, so that its scripts are a person's."""

from suite.reproduce.template import Template

TEMPLATE = Template(packages=("peft", "transformers", "torch", "numpy"), setup="import peft", calls={})
