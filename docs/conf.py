"""How the documentation is built: `nox -s docs`."""

from __future__ import annotations

import builtins
import os
import re
import sys
from importlib.metadata import version as version_of
from typing import Any

project = "threadkit"
author = "The threadkit authors"
copyright = "2026, The threadkit authors"
release = version = version_of("threadkit")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "examples"]
html_theme = "furo"
html_title = f"threadkit {release}"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False

# A name that leads nowhere is an error. Names of Python itself lead to its documentation where the pages are published.
# A build must not need the network: elsewhere these names, and no others, are let pass.
nitpicky = True
nitpick_ignore_regex = []
if os.environ.get("READTHEDOCS"):
    extensions += ["sphinx.ext.intersphinx"]
    intersphinx_mapping = {"python": ("https://docs.python.org/3", None)}
else:
    nitpick_ignore_regex += [
        (r"py:.*", rf"({'|'.join(sorted(map(re.escape, sys.stdlib_module_names)))})(\..*)?"),
        (r"py:.*", "|".join(name for name in dir(builtins) if name.isidentifier())),
    ]
# Signatures of exceptions are read as text, where a name goes without its module.
nitpick_ignore = [("py:class", "timedelta")]
# Public classes have private bases, and signatures private type variables: neither has a page.
nitpick_ignore_regex += [(r"py:.*", r"threadkit\.(.+\.)?_\w+|(threadkit\..+\.)?[A-Z]")]


def keep_first_line(*arguments: Any) -> None:
    """Let an empty comment go first, or napoleon takes "The reason: why it stopped." for a type and a description."""
    _app, what, _name, _object, _options, lines = arguments
    if what in {"attribute", "data", "property"}:
        lines[:0] = ["..", ""]


def setup(app: Any) -> None:
    """Install the hook, before napoleon's own."""
    app.connect("autodoc-process-docstring", keep_first_line, priority=400)
