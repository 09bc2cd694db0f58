"""How the documentation is built: `nox -s docs`."""

from __future__ import annotations

import builtins
import os
import pkgutil
import re
import sys
from importlib.metadata import version as version_of
from typing import Any

from sphinx.pycode import ModuleAnalyzer

import threadkit

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
# Annotations that are read as text, where a name goes without its module.
nitpick_ignore = [("py:class", "timedelta"), ("py:class", "Executor")]
nitpick_ignore_regex += [
    # Signatures have private type variables.
    (r"py:.*", r"threadkit\.(.+\.)?_\w+|(threadkit\..+\.)?[A-Z]"),
    # Short names for types that are written out where the parameter or the field is explained.
    (r"py:class", r"By|Every|KeepRules|LimitName|Loop|Misfire|OnFull|OnWedged|Outcome|Overlap|RestartPolicy"),
    (r"py:class", r"Stop|Strategy"),
    # What a store keeps: a `Job` is one, and shows what of it is public. What an executor's options() returns: it has
    # the executor's methods. The keywords that makers pass on: their components explain them. What bounds a queue.
    (r"py:class", r"threadkit\._(records\.JobRecord|submitter\.Submitter|(group|leader|makers|thread)\.\w+Options)"),
    (r"py:class", r"threadkit\._permits\.Permits"),
    # A generic class shows where it really lives.
    (r"py:class", r"threadkit\._quotas\.PerKey"),
    (r"py:class", r"typing_extensions\.\w+"),
]


def read_homes(*_arguments: Any) -> None:
    """Let Sphinx find what is written below the fields of public classes.

    It looks for that in the source of the module that a class says it lives in. Ours say that they live at the door.
    """
    door = ModuleAnalyzer.for_module("threadkit")
    door.analyze()
    for module in pkgutil.iter_modules(threadkit.__path__, "threadkit."):
        if not module.name.endswith("__main__"):
            home = ModuleAnalyzer.for_module(module.name)
            home.analyze()
            door.attr_docs.update({key: lines for key, lines in home.attr_docs.items() if key[0]})
            door.tagorder.update({name: place for name, place in home.tagorder.items() if "." in name})


def public_bases(base: Any) -> list[Any]:
    """Return a base, or what it has of public bases itself if users cannot import it."""
    if getattr(base, "__module__", "").startswith("threadkit._"):
        return [above for below in base.__bases__ for above in public_bases(below)]
    return [] if base is object else [base]


def hide_private_bases(*arguments: Any) -> None:
    """Leave out the bases that users cannot import; what is public of them is shown as the class's own."""
    bases = arguments[-1]
    bases[:] = [public for base in bases for public in public_bases(base)] or [object]


def keep_first_line(*arguments: Any) -> None:
    """Let an empty comment go first, or napoleon takes "The reason: why it stopped." for a type and a description."""
    _app, what, _name, _object, _options, lines = arguments
    if what in {"attribute", "data", "property"}:
        lines[:0] = ["..", ""]


def setup(app: Any) -> None:
    """Install the hooks, the last one before napoleon's own."""
    app.connect("builder-inited", read_homes)
    app.connect("autodoc-process-bases", hide_private_bases)
    app.connect("autodoc-process-docstring", keep_first_line, priority=400)
