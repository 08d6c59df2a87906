"""Jet tagging as a graph problem, with attention that prunes edges."""

from importlib.metadata import version

__version__ = version("iagraph")
