"""How Sphinx makes a site of these pages: tox -e docs, or Read the Docs by .readthedocs.yaml."""

from __future__ import annotations

import importlib
import os
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

from pytest_memtype.cli import main

project = "pytest-memtype"
author = "The pytest-memtype developers"
release = version_of("pytest-memtype")
version = release.partition("+")[0]

extensions = ["myst_parser", "sphinx.ext.autodoc"]
# Lines of the change log to come; what somebody has built here.
exclude_patterns = ["changes/*.*.md", "_build"]
nitpicky = True
# What Guest.ssh() returns is imported for type checkers alone.
nitpick_ignore = [("py:class", "Connection")]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 4
# In the order of the source, which is that of a reader.
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
# Blocks that name no language are commands and what they print.
highlight_language = "text"
html_theme = "furo"
html_title = "pytest-memtype"
html_baseurl = os.environ.get("READTHEDOCS_CANONICAL_URL", "")
html_copy_source = False

# Pages that other pages link to as files, since that is what they are on the disk.
_ROOT_PAGES = {"CONTRIBUTING": "contributing", "SECURITY": "security", "CHANGELOG": "changelog"}
_ROOT = Path(__file__).parents[1]


class RootPages(SphinxTransform):
    """Makes links to the project's own pages of links to files outside of this folder."""

    default_priority = 5

    def apply(self, **_: Any) -> None:
        for link in self.document.findall(addnodes.pending_xref):
            file = Path(link["reftarget"])
            if file.name in _ROOT_PAGES and file.parent == _ROOT:
                link["reftarget"] = _ROOT_PAGES[file.name]


def in_the_package(
    _: Sphinx, __: Any, node: addnodes.pending_xref, text: nodes.Element
) -> nodes.Element | None:
    """Leaves what is no page of this site as text, if there is such a thing; Sphinx warns of all else."""
    module, owner, target = node.get("py:module"), node.get("py:class"), node.get("reftarget", "")
    if node.get("refdomain") != "py":
        return None
    places = [target]
    if module is not None:
        # A class is documented under its public name, and its docstring knows the module that it stands in.
        own = getattr(getattr(importlib.import_module(module), owner or "", None), "__module__", module)
        places += [f"{each}.{name}" for each in (module, own) for name in (f"{owner}.{target}", target)]
    for name in (*places, f"builtins.{target}"):
        if _exists(name):
            return text
    return None


def _exists(name: str) -> bool:
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            thing: Any = importlib.import_module(".".join(parts[:count]))
        except ImportError:
            continue
        for part in parts[count:]:
            # A field of a dataclass that has no default is none of its class's attributes.
            if part in getattr(thing, "__dataclass_fields__", {}) or part in getattr(
                thing, "__annotations__", {}
            ):
                return True
            if not hasattr(thing, part):
                return False
            thing = getattr(thing, part)
        return True
    return False


class HelpOf(Directive):
    """The help of a command, as the command prints it."""

    required_arguments = 1
    optional_arguments = 9

    def run(self) -> list[nodes.Node]:
        words = [] if self.arguments == ["memtype"] else self.arguments
        done = CliRunner().invoke(main, [*words, "--help"], prog_name="memtype", terminal_width=100)
        if done.exit_code:
            raise self.error(f"memtype {' '.join(words)} --help ended with {done.exit_code}: {done.output}")
        return [nodes.literal_block(done.output, done.output, language="text")]


def setup(app: Sphinx) -> None:
    app.add_transform(RootPages)
    app.add_directive("help-of", HelpOf)
    app.connect("missing-reference", in_the_package)
