"""List the recipes and trained models of the package, or show one: iagraph recipes qg > mine.yaml."""

import argparse
import sys
from collections.abc import Sequence

from iagraph.cli.arguments import command_for, described
from iagraph.files import PRETRAINED, RECIPES, recipe_file, run_path


def main(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """List recipes, by their commands, and models; or print one recipe, or the card of one model."""
    parser.add_argument("name", nargs="?", help="the recipe to show, or the model (pretrained:qg), by its card")
    name = parser.parse_args(words).name
    if name is not None:
        try:
            file = run_path(name) / "README.md" if name.startswith("pretrained:") else recipe_file(name)
            text = file.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            missing = f"{name}: no such recipe; iagraph recipes lists them"
            sys.exit(f"error: {error if name.startswith('pretrained:') else missing}")
        except OSError as error:
            sys.exit(f"error: {described(error)}")
        print(text, end="")
        return
    titles = {}
    for path in sorted(RECIPES.glob("*.yaml")):
        comment = path.read_text(encoding="utf-8").partition("\n\n")[0].replace("\n#", "").removeprefix("# ")
        titles[f"iagraph {command_for(path.stem)} {path.stem}"] = comment.partition(". ")[0].removesuffix(".")
    for card in sorted(PRETRAINED.glob("*/README.md")):
        headline = card.read_text(encoding="utf-8").partition("\n")[0]
        titles[f"pretrained:{card.parent.name}"] = headline.partition(": ")[2]
    width = max(map(len, titles))
    for name, title in titles.items():
        print(f"{name:{width}}  {title}")
