"""pi0 and pi05 in flax nnx: sizes, variants, named models, and what their parameters are."""
