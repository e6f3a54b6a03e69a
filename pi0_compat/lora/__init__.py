"""LoRA adapters as parameters: where they sit, how they start, how they merge, fold and unfold."""
