"""Parsing and printing utilities shared by the commands."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from iagraph.files import RECIPES, explain_os_error, recipe_file, run_path

if TYPE_CHECKING:
    from iagraph.data.readers.mapped import BranchMap


def escape_unprintable() -> None:
    r"""Escape characters that standard output and error cannot encode, for example gamma as ``\u03b3`` in latin-1.

    Every command calls it first: names of species, classes and files may have any characters, which some terminals and
    batch logs cannot show.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # not a notebook's replacement, or None
            stream.reconfigure(errors="backslashreplace")


def command_for(recipe: str) -> str:
    """The command that takes a packaged recipe, by the first word of its name."""
    others = {"compare": "study compare", "curve": "study curve", "generate": "generate"}
    return others.get(recipe.partition("_")[0], "train")


def recipe_for(command: str) -> Callable[[str], str]:
    """The name or file of a recipe for a command, as the ``type`` of an argument.

    Raises:
        argparse.ArgumentTypeError: it is a packaged recipe for another command, or a model of the package.
    """

    def recipe(text: str) -> str:
        if text.startswith("pretrained:"):
            raise argparse.ArgumentTypeError(
                f"{text} is a trained model, not a recipe; to start from it: fine_tune.weights={text}"
            )
        if (
            recipe_file(text).resolve().parent == RECIPES.resolve()
            and (wanted := command_for(Path(text).stem)) != command
        ):
            raise argparse.ArgumentTypeError(f"{text} is a recipe for iagraph {wanted}")
        return text

    return recipe


def trained(text: str) -> Path:
    """The folder of a run, or of a model of the package (``pretrained:NAME``), as the ``type`` of an argument.

    Raises:
        argparse.ArgumentTypeError: the package has no model of this name.
    """
    try:
        return run_path(text)
    except FileNotFoundError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def described(error: Exception) -> str:
    """The text of an error; of one of the operating system, the file, the reason and what to do."""
    reason = explain_os_error(error)
    if reason is None or not isinstance(error, OSError) or error.filename is None:
        return str(error)
    return f"{error.filename}: cannot read or write this file {reason}"


def branch_map(path: Path | None) -> "BranchMap | None":
    """The map of branches in a file, if one is given.

    Raises:
        StoreError: the map is invalid.
    """
    if path is None:
        return None
    from iagraph.data.readers.mapped import load_map

    return load_map(path)


def positive(text: str) -> int:
    """Parse a positive integer, as the ``type`` of an argument.

    Raises:
        argparse.ArgumentTypeError: the text is not a positive integer.
    """
    if not (text.isdecimal() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"should be 1 or more, found {text}")
    return int(text)
