"""Why a failure cannot become a script."""


class CannotReproduceError(Exception):
    """A law does not fail silently here, or what it asks cannot be said in calls of the implementation's own API."""
