"""Sphinx configuration. ``nox -s docs`` builds these pages into ``.site/``; a broken link or anchor fails the build.

The pages use no web font, script, or style sheet from another host, so they build and read offline.
"""

import posixpath
import re
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util import logging

project = "pi0-compat"
author = "The pi0-compat maintainers"

extensions = ["myst_parser"]
myst_heading_anchors = 3
nitpicky = True
smartquotes = False

html_theme = "furo"
html_title = "pi0-compat"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
pygments_style = "default"
pygments_dark_style = "monokai"

_ROOT = Path(__file__).parents[1]
_FILES = "https://github.com/OWNER/pi0-compat"
# A relative Markdown link that leaves its folder, with an optional anchor.
_LINK = re.compile(r"(?<=\]\()(\.\./[^)\s#]+)(#[^)\s]*)?(?=\))")
_log = logging.getLogger(__name__)


def _link_to_repository(app: Sphinx, page: str, source: list[str]) -> None:
    """Point links to files outside ``docs/`` at the repository: the site has only these pages.

    Args:
      app: unused; part of the ``source-read`` event.
      page: the page's path below ``docs/``, without its suffix.
      source: its text, replaced in place.
    """
    folder = posixpath.dirname(f"docs/{page}")

    def linked(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, match[1]))
        if path.startswith("docs/"):
            return match[0]
        if not (_ROOT / path).exists():
            _log.warning("no such file in the repository: %s", path, location=page)
        kind = "tree" if (_ROOT / path).is_dir() else "blob"
        return f"{_FILES}/{kind}/main/{path}{match[2] or ''}"

    source[0] = _LINK.sub(linked, source[0])


def setup(app: Sphinx) -> None:
    """Register the event."""
    app.connect("source-read", _link_to_repository)
