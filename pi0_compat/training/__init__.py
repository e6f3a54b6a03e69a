"""Training configs, the train state and its step, runs that are saved and resumed."""
