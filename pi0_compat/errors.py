"""What can be wrong with a checkpoint. Messages name the file, the parameter, expected, found, and the way out."""


class CheckpointError(ValueError):
    """A file or folder that is not, or no longer, the checkpoint it should be. Nothing was loaded or changed."""


class LoadError(ValueError):
    """A readable checkpoint that does not fit the model. Nothing was loaded."""
