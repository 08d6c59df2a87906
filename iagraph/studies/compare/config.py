"""The configuration of a comparison: recipes and seeds for training on the same jets."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from iagraph.files import recipe_file, user_path
from iagraph.train.config import Config, load_config
from iagraph.yaml_config import COMMAND_LINE, ConfigError, load_model

FILES = ("train", "val", "test")
SAME_JETS = (*FILES, "classes", "weights", "signal", "signal_efficiency", "max_jets", "max_particles", "masses")
"""Keys of `data` that must be equal in all recipes; features, batches and memory may differ."""

Text = Annotated[str, Field(min_length=1)]
Recipe = Annotated[
    list[Text], Field(min_length=1), BeforeValidator(lambda recipe: [recipe] if isinstance(recipe, str) else recipe)
]
"""A recipe and changes of its keys."""


class CompareConfig(BaseModel):
    """A comparison of models."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="Name of the comparison: letters, digits, `-`, `_`, `.`."
    )
    seeds: list[Annotated[int, Field(ge=0, le=2**32 - 1)]] = Field(
        min_length=1, description="Each model is trained once per seed; two or more give a spread."
    )
    recipes: dict[Text, Recipe] = Field(
        min_length=1,
        description="Recipe of each model by its name in the table, for example `ParT: qg_part.yaml`, or a list of a "
        "recipe and changes of it, as in `[qg_part.yaml, model.blocks=4]`. Paths of recipes are relative to the folder "
        "of this file, or names of packaged recipes; paths in them are relative to the working folder.",
    )
    reference: Text | None = Field(
        default=None, description="The model from which differences are taken, jet by jet and seed by seed."
    )
    overrides: list[str] = Field(
        default=[], description="Changes of all recipes, for example [train.epochs=2, train.device=cpu]."
    )
    output: str = Field(default="studies", min_length=1, description="Folder of the comparison's folder.")

    @field_validator("seeds")
    @classmethod
    def _distinct_seeds(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("should name each seed once")
        return seeds

    @field_validator("recipes", mode="before")
    @classmethod
    def _names_with_files(cls, recipes: Any) -> Any:
        if not isinstance(recipes, dict) or not recipes:
            raise ValueError("should name files, as in {IAFormer: qg.yaml, ParT: qg_part.yaml}")
        for name in recipes:
            if not isinstance(name, str):
                raise ValueError(f"should have strings as names: put {json.dumps(name, default=str)} in quotes")
        return recipes

    @field_validator("recipes")
    @classmethod
    def _distinct_folders(cls, recipes: dict[str, list[str]]) -> dict[str, list[str]]:
        names: dict[str, str] = {}
        for name in recipes:
            if not slug(name):
                raise ValueError(f"should have names with letters (a to z) or digits, of which '{name}' has none")
            if (other := names.setdefault(slug(name), name)) != name:
                raise ValueError(
                    f"should have names that differ in more than punctuation and case: '{other}', '{name}'"
                )
        return recipes

    @model_validator(mode="after")
    def _reference_is_a_model(self) -> CompareConfig:
        if self.reference is not None and self.reference not in self.recipes:
            raise ValueError(f"reference: '{self.reference}' should be one of {', '.join(self.recipes)}")
        return self


class PlannedRun(NamedTuple):
    """A model to be trained with a seed.

    Attributes:
        model: name of the model in the table.
        config: the whole configuration, including the seed.
        folder: folder of the finished run.
    """

    model: str
    config: Config
    folder: Path

    def __str__(self) -> str:
        jets = self.config.data.max_jets
        return f"{self.model}, seed {self.config.seed}" + (f", {jets:,} jets" if jets else "")


@dataclass(frozen=True)
class Comparison:
    """Models to be compared.

    Attributes:
        folder: output folder.
        seeds: seeds of the runs of each model.
        recipes: configuration of each model by its name in the table.
        reference: the model from which differences are taken, if any.
    """

    folder: Path
    seeds: tuple[int, ...]
    recipes: dict[str, Config]
    reference: str | None = None

    @property
    def runs(self) -> list[PlannedRun]:
        """Every model with the first seed, then every model with the second, ..."""
        return [
            PlannedRun(name, recipe.model_copy(update={"seed": seed}), self.folder / slug(name) / f"seed-{seed}")
            for seed in self.seeds
            for name, recipe in self.recipes.items()
        ]


def load_comparison(path: str | Path, overrides: Sequence[str] = ()) -> Comparison:
    """Load a comparison and its recipes from a YAML file, with overrides ``key=value``.

    Raises:
        ConfigError: with every problem in the file and in the recipes, one per line.
    """
    path = recipe_file(path)
    return comparison_of(load_model(CompareConfig, path, overrides), path)


def comparison_of(config: CompareConfig, path: Path, more: Sequence[str] = ()) -> Comparison:
    """The comparison of a configuration read from ``path``; ``more`` are changes of all recipes, made last.

    Raises:
        ConfigError: with every problem in the recipes, one per line.
    """
    recipes, problems = {}, []
    for name, (file, *changes) in config.recipes.items():
        recipe = recipe_file(file, path.parent)
        try:
            recipes[name] = load_config(recipe, [*config.overrides, *changes, *more])
        except ConfigError as error:
            # Problems with our overrides are reported as those of a command line: name the recipe and this file.
            here = f"{recipe} with the overrides of {path}"
            problems += [re.sub(f"^{COMMAND_LINE}", lambda _, here=here: here, text) for text in error.args]  # type: ignore[misc]
    problems += [f"{path}: {text}" for text in _different_jets(recipes)]
    if problems:
        raise ConfigError(*problems)
    return Comparison(user_path(config.output) / config.name, tuple(config.seeds), recipes, config.reference)


def slug(name: str) -> str:
    """A name in a form suited to folders: ``Q K + pair bias`` becomes ``q-k-pair-bias``."""
    return re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")


def _different_jets(recipes: dict[str, Config]) -> list[str]:
    problems = []
    for key in SAME_JETS:
        found: dict[str, list[str]] = {}
        shown: dict[str, str] = {}
        for name, recipe in recipes.items():
            value = getattr(recipe.data, key)
            # Files are compared by real path: jets.h5 equals ./jets.h5.
            same = json.dumps(list(map(os.path.realpath, value)) if key in FILES else value, sort_keys=True)
            found.setdefault(same, []).append(name)
            shown.setdefault(same, json.dumps(value))
        if len(found) > 1:
            values = "; ".join(f"{shown[same]} in {', '.join(names)}" for same, names in found.items())
            advice = f"make it equal in the recipes, or set it for all: overrides: ['data.{key}=...']"
            problems.append(f"models are compared on the same jets, but data.{key} is {values}; {advice}")
    return problems
