"""How the documentation is built: `nox -s docs`."""

from __future__ import annotations

import builtins
import os
import re
import sys
from importlib.metadata import version as version_of

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
if os.environ.get("READTHEDOCS"):
    extensions += ["sphinx.ext.intersphinx"]
    intersphinx_mapping = {"python": ("https://docs.python.org/3", None)}
else:
    nitpick_ignore_regex = [
        (r"py:.*", rf"({'|'.join(sorted(map(re.escape, sys.stdlib_module_names)))})(\..*)?"),
        (r"py:.*", "|".join(name for name in dir(builtins) if name.isidentifier())),
    ]
