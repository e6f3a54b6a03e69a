"""The reference implementation: pi0 and pi05 in flax nnx, their checkpoints, weight loaders and LoRA fine-tuning.

It imports nothing else of this project, so it can be read, copied and used on its own. Parameters travel as ``Params``:
a flat ``dict`` from slash paths (openpi's names, without the ``value`` suffix) to arrays.
"""
