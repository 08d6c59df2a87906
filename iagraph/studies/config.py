"""The configuration of a comparison: which recipes, trained with which seeds, on the same jets."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, field_validator

from iagraph.train.config import Config, load_config
from iagraph.yaml_config import COMMAND_LINE, ConfigError, describe, load_model

SAME_JETS = ("train", "val", "test", "signal", "signal_efficiency", "max_jets", "max_particles")
"""Keys of `data` that must be equal in all recipes; features, batches and memory may differ."""

Text = Annotated[str, Field(min_length=1)]


class CompareConfig(BaseModel):
    """A comparison of models."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="Name of the comparison: letters, digits, `-`, `_`, `.`."
    )
    seeds: list[Annotated[int, Field(ge=0, le=2**32 - 1)]] = Field(
        min_length=1, description="Each model is trained once with each of them; two or more give a spread."
    )
    recipes: dict[Text, Text] = Field(
        min_length=1,
        description="Recipe of each model by its name in the table, for example `ParT: qg_part.yaml`; the file is "
        "looked for beside this one.",
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

    @field_validator("recipes")
    @classmethod
    def _distinct_folders(cls, recipes: dict[str, str]) -> dict[str, str]:
        names: dict[str, str] = {}
        for name in recipes:
            if not slug(name):
                raise ValueError(f"should have names with letters (a to z) or digits, of which '{name}' has none")
            if (other := names.setdefault(slug(name), name)) != name:
                raise ValueError(f"should have names that differ in more than signs and case: '{other}', '{name}'")
        return recipes


class PlannedRun(NamedTuple):
    """A model to be trained with a seed.

    Attributes:
        model: its name in the table.
        config: all of its configuration, the seed included.
        folder: where the finished run goes.
    """

    model: str
    config: Config
    folder: Path

    def __str__(self) -> str:
        return f"{self.model}, seed {self.config.seed}"


@dataclass(frozen=True)
class Comparison:
    """Models to be compared.

    Attributes:
        folder: where all of it goes.
        seeds: of the runs of each model.
        recipes: configuration of each model by its name in the table.
    """

    folder: Path
    seeds: tuple[int, ...]
    recipes: dict[str, Config]

    @property
    def runs(self) -> list[PlannedRun]:
        """Every model with the first seed, then every model with the second, ..."""
        return [
            PlannedRun(name, recipe.model_copy(update={"seed": seed}), self.folder / slug(name) / f"seed-{seed}")
            for seed in self.seeds
            for name, recipe in self.recipes.items()
        ]


def load_comparison(path: str | Path, overrides: Sequence[str] = ()) -> Comparison:
    """The comparison that a YAML file describes, after the changes `key=value`, with all recipes read.

    Raises:
        ConfigError: with every problem of the file and of the recipes, one per line.
    """
    path = Path(path)
    config = load_model(CompareConfig, path, overrides)
    recipes, problems = {}, []
    for name, file in config.recipes.items():
        recipe = path.parent / file
        try:
            recipes[name] = load_config(recipe, config.overrides)
        except ConfigError as error:
            # To the recipe, our overrides look like those of its command line.
            here = f"{recipe} with the overrides of {path}"
            problems += [re.sub(f"^{COMMAND_LINE}", lambda _, here=here: here, text) for text in error.args]  # type: ignore[misc]
    problems += [f"{path}: {text}" for text in _different_jets(recipes)]
    if problems:
        raise ConfigError(*problems)
    return Comparison(Path(config.output) / config.name, tuple(config.seeds), recipes)


def describe_comparison() -> str:
    """All keys with type, default and meaning, for `--help`."""
    return describe(CompareConfig)


def slug(name: str) -> str:
    """A name as a folder: `Q K + pair bias` is `q-k-pair-bias`."""
    return re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")


def _different_jets(recipes: dict[str, Config]) -> list[str]:
    problems = []
    for key in SAME_JETS:
        found: dict[str, list[str]] = {}
        for name, recipe in recipes.items():
            found.setdefault(json.dumps(getattr(recipe.data, key), sort_keys=True), []).append(name)
        if len(found) > 1:
            values = "; ".join(f"{value} in {', '.join(names)}" for value, names in found.items())
            advice = f"make it equal in the recipes, or set it for all: overrides: ['data.{key}=...']"
            problems.append(f"models are compared on the same jets, but data.{key} is {values}; {advice}")
    return problems
