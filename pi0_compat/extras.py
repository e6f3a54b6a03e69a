"""Which packages an extra of the distribution brings, and how to install it: the only place that says so."""

# Extra -> the import names of the packages that the base install lacks.
EXTRAS: dict[str, tuple[str, ...]] = {
    "jax": ("jax", "jaxlib", "flax", "optax", "orbax"),
    "gcs": ("gcsfs",),
    "parquet": ("pyarrow",),
}


def install_line(extra: str) -> str:
    """Return the command that installs an extra."""
    return f"pip install 'pi0-compat[{extra}]'"


def extra_of(module: str | None) -> str | None:
    """Return the extra that brings a module, given by its full name; None for a module that no extra brings."""
    package = (module or "").partition(".")[0]
    return next((extra for extra, packages in EXTRAS.items() if package in packages), None)
