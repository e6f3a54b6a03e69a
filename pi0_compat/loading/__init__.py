"""Checkpoints into models: weight loaders, matching of parameters, reports."""
