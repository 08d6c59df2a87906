"""List the recipes of the package, or show one: iagraph recipes qg > mine.yaml."""

import argparse
import sys
from collections.abc import Sequence

from iagraph.files import RECIPES, recipe_file

COMMANDS = {"compare": "study compare", "generate": "generate"}
"""The command that takes a recipe, by the first word of its name; the others are for ``train``."""


def main(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Print the command of each recipe with the first sentence of its comment, or print one recipe."""
    parser.add_argument("name", nargs="?", help="the recipe to show")
    name = parser.parse_args(words).name
    if name is not None:
        try:
            print(recipe_file(name).read_text(encoding="utf-8"), end="")
        except OSError:
            sys.exit(f"error: {name}: no such recipe; iagraph recipes lists them")
        return
    for path in sorted(RECIPES.glob("*.yaml")):
        command = f"iagraph {COMMANDS.get(path.stem.partition('_')[0], 'train')} {path.stem}"
        comment = path.read_text(encoding="utf-8").partition("\n\n")[0].replace("\n#", "").removeprefix("# ")
        print(f"{command:38} {comment.partition('. ')[0].removesuffix('.')}")
