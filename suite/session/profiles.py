"""Hypothesis profiles: dev (the default), ci (derandomized, if ``CI`` is set) and thorough.

``HYPOTHESIS_PROFILE`` selects one by name.
"""

import os

from hypothesis import HealthCheck, settings


def register() -> None:
    """Register the profiles and load the one that the environment selects."""
    # Parents are named: without one, a profile takes its settings from whichever profile is active here.
    quiet = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
    settings.register_profile("dev", parent=settings.get_profile("default"), max_examples=50, **quiet)
    settings.register_profile("ci", parent=settings.get_profile("ci"), max_examples=50, **quiet)
    settings.register_profile("thorough", parent=settings.get_profile("dev"), max_examples=1000)
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))
