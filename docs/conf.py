"""Sphinx configuration of the documentation: python -m sphinx -W --keep-going -c docs . build/site.

The sources are the Markdown files of the repository where they are (README.md, docs/, the data cards), so that a link
works on a code host and on the site alike. Nothing is fetched while it is built.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import api_pages

import iagraph

project = "iagraph"
author = "The iagraph authors"
project_copyright = author
version = release = iagraph.__version__

root_doc = "docs/index"
include_patterns = [
    "*.md",
    "docs/*.md",
    "docs/**/*.md",
    "docs/**/*.ipynb",
    "iagraph/data/cards/*.md",
    "iagraph/pretrained/*/*.md",
]
exclude_patterns = [".*", "build", "dist", "runs", "studies", "tests", "**/.ipynb_checkpoints"]

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]  # data cards begin their sections where they like

# Notebooks are stored without outputs and run here.
nb_execution_mode = "force"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_output_stderr = "remove"  # progress bars and hints of other packages

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = ["Shapes"]

# Names of our own must be found; those of other packages would need the network.
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(?!iagraph\.).*"),
    (r"py:class", r"iagraph\.(.*\.)?(_\w+|T|Model)"),  # type variables, and types that are not public
]

html_theme = "furo"
html_title = f"iagraph {version}"
html_show_sourcelink = False
html_additional_pages = {"index": "to_index.html"}
templates_path = ["templates"]


def setup(app):  # noqa: D103, as Sphinx calls it
    api_pages.setup(app)
