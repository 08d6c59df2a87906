"""Runs that differ by their seed alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from iagraph.studies.of_run import OpenRun
from iagraph.train.config import Config

NOT_A_DIFFERENCE = ("seed", "name", "output")
"""Keys of a configuration in which runs of a group may differ."""


class Group(NamedTuple):
    """Runs of one configuration.

    Attributes:
        name: of the group.
        runs: their places among all runs.
        training_jets: number of jets that each was trained on.
    """

    name: str
    runs: list[int]
    training_jets: int


def recipe(config: Config) -> dict[str, Any]:
    """A configuration without its seed and what it is called."""
    return config.model_dump(exclude=set(NOT_A_DIFFERENCE))


def grouped(runs: Sequence[OpenRun], names: Sequence[str]) -> list[Group]:
    """Groups of runs whose configurations differ by ``seed``, ``name`` and ``output`` alone, in order of appearance.

    A group is called as its first run's configuration; where two would have the same name, the names of their first
    runs are added.

    Args:
        runs: the runs.
        names: what each is called.
    """
    members: list[list[int]] = []
    for number, run in enumerate(runs):
        for group in members:
            if recipe(runs[group[0]].run.config) == recipe(run.run.config):
                group.append(number)
                break
        else:
            members.append([number])
    titles = [runs[group[0]].run.config.name for group in members]
    titles = [
        title if titles.count(title) == 1 else f"{title} ({names[group[0]]})"
        for title, group in zip(titles, members, strict=True)
    ]
    trained = [sum(part.end - part.begin for part in runs[group[0]].run.trained_on) for group in members]
    return [Group(*each) for each in zip(titles, members, trained, strict=True)]
