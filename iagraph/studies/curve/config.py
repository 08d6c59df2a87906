"""The configuration of a learning curve: a comparison for each of several numbers of training jets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from pydantic import Field

from iagraph.files import recipe_file
from iagraph.studies.compare.config import CompareConfig, Comparison, comparison_of
from iagraph.train.model_config import PositiveInt
from iagraph.yaml_config import load_model


class CurveConfig(CompareConfig):
    """A learning curve."""

    jets: Annotated[list[PositiveInt | None], Field(min_length=2)] = Field(
        description="Numbers of training jets, ascending; null: all. Each number is chosen at random from all training "
        "jets, the same jets for all models and seeds."
    )
    extrapolate: PositiveInt = Field(
        description="Number of training jets to extrapolate the power laws to, such as that of published results."
    )


@dataclass(frozen=True)
class Curve:
    """Models to be trained on more and more jets.

    Attributes:
        folder: output folder.
        parts: the comparison at each number of training jets, ascending.
        extrapolate: number of training jets to extrapolate to.
    """

    folder: Path
    parts: tuple[Comparison, ...]
    extrapolate: int


def load_curve(path: str | Path, overrides: Sequence[str] = ()) -> Curve:
    """Load a learning curve and its recipes from a YAML file, with overrides ``key=value``.

    Raises:
        ConfigError: with every problem in the file or in the recipes, one per line.
    """
    path = recipe_file(path)
    config = load_model(CurveConfig, path, overrides)
    parts = []
    for jets in config.jets:
        part = comparison_of(config, path, [f"data.max_jets={jets or 'null'}"])
        parts.append(replace(part, folder=part.folder / f"jets-{jets or 'all'}"))
    return Curve(parts[0].folder.parent, tuple(parts), config.extrapolate)
