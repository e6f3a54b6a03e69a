"""Pages of ``docs/`` that are generated from the code: ``python -m suite.docs`` writes them."""
