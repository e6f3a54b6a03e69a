"""Format numbers the same way on every page: three significant digits and a suitable unit."""


def digits(value: float) -> str:
    """Format with three significant digits; large numbers as whole numbers with commas."""
    return f"{value:,.0f}" if abs(value) >= 999.5 or not value else f"{value:#.3g}".rstrip(".")


def seconds(value: float) -> str:
    """Format seconds as s, or ms below 0.1 s."""
    return f"{digits(value)} s" if value >= 0.1 else f"{digits(1000 * value)} ms"


def gigabytes(value: float) -> str:
    """Format bytes as GB, MB or kB."""
    if value < 1e5:
        return f"{digits(value / 1e3)} kB"
    return f"{digits(value / 1e9)} GB" if value >= 1e7 else f"{digits(value / 1e6)} MB"


def factor(value: float) -> str:
    """Format a ratio, like 1.25x."""
    return f"{value:.2f}x" if value < 10 else f"{value:.1f}x"


def percent(share: float) -> str:
    """Format a share as a percentage."""
    return f"{100 * share:.1f} %" if share < 0.0995 else f"{100 * share:.0f} %"
