"""Ways to prune a trained model: rules from the command line, controls, and the resulting models."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from iagraph.interpret.edges import CONTROLS, ChooseEdges, control
from iagraph.jets import JetBatch
from iagraph.models.attention_tagger import AttentionTagger
from iagraph.models.registry import names_of
from iagraph.nn.pruning import FORMER_NAMES, PruningRule, pruning_rule
from iagraph.train.folder import Run, RunError
from iagraph.yaml_config import COMMAND_LINE, ConfigError

MEANINGS = {
    "threshold": "edges whose |attention| is at least this",
    "top_k": "at most this number of incoming edges of a particle, the strongest",
    "top_p": "the fewest incoming edges of a particle that hold this fraction of its |attention|",
    "edge_budget": "the strongest edges of a jet, this fraction of those kept by the previous layer",
}
"""Meaning of the strength of a rule, for ``--help``."""

STRENGTHS: dict[str, tuple[float, ...]] = {
    "threshold": (0.003, 0.01, 0.03, 0.1),
    "top_k": (16, 8, 4, 2),
    "top_p": (0.98, 0.9, 0.8, 0.6),
    "edge_budget": (0.5, 0.3, 0.2, 0.1, 0.05),
}
"""Default rules and their strengths."""

UNPRUNED = "unpruned"
AS_TRAINED = "as trained"


class PlannedRule(NamedTuple):
    """A rule with its name and strength as given on the command line."""

    name: str
    strength: float
    rule: PruningRule

    def __str__(self) -> str:
        return f"{self.name}={self.strength:.12g}"


def default_rules(per_head: bool = False, renormalize: bool = False) -> list[PlannedRule]:
    """The rules of :data:`STRENGTHS`; arguments as in :class:`~iagraph.nn.pruning.PruningRule`."""
    return parse_rules(
        [f"{name}={','.join(map(str, them))}" for name, them in STRENGTHS.items()], per_head, renormalize
    )


def parse_rules(texts: Sequence[str], per_head: bool = False, renormalize: bool = False) -> list[PlannedRule]:
    """The distinct rules in texts like ``top_k=8,4``.

    Args:
        texts: each a rule with its strengths.
        per_head: as in :class:`~iagraph.nn.pruning.PruningRule`.
        renormalize: as in :class:`~iagraph.nn.pruning.PruningRule`.

    Raises:
        ConfigError: with every problem found, one per line.
    """
    found: dict[PlannedRule, None] = {}
    problems = []
    for text in texts:
        name, _, numbers = text.partition("=")
        name = FORMER_NAMES.get(name, name)
        for number in numbers.split(","):
            try:
                strength = float(number)
            except ValueError:
                problems.append(f"{COMMAND_LINE}: '{text}' should be a rule and its numbers, as in top_k=8,4")
                break
            try:
                found[PlannedRule(name, strength, pruning_rule(name, strength, per_head, renormalize))] = None
            except ValueError as error:
                problems.append(f"{COMMAND_LINE}: '{text}': {error}")
    if problems:
        raise ConfigError(*dict.fromkeys(problems))
    return list(found)


def describe_rules() -> str:
    """The rules of :data:`STRENGTHS` with the meaning of their strengths, for ``--help``."""
    numbers = {name: ",".join(f"{number:g}" for number in strengths) for name, strengths in STRENGTHS.items()}
    return "\n".join(f"{name}={numbers[name]}\n    {MEANINGS[name]}" for name in STRENGTHS)


def parse_rule(text: str, per_head: bool = False, renormalize: bool = False) -> PlannedRule:
    """The single rule in a text like ``edge_budget=0.3``; arguments and errors as in :func:`parse_rules`."""
    rules = parse_rules([text], per_head, renormalize)
    if len(rules) > 1:
        raise ConfigError(f"{COMMAND_LINE}: '{text}' should be one rule with one number, as in edge_budget=0.3")
    return rules[0]


class Variant(nn.Module):
    """A tagger with a rule, or with edges chosen beforehand.

    Args:
        family: name of the rule or control.
        strength: its strength, or None.
        tagger: the tagger, which is copied.
        rule: the rule for all its attention layers; None for no rule.
        choose: function that chooses edges; None for all edges.
    """

    def __init__(
        self,
        family: str,
        strength: float | None,
        tagger: AttentionTagger,
        rule: PruningRule | None = None,
        choose: ChooseEdges | None = None,
    ) -> None:
        super().__init__()
        self.family, self.strength, self.choose = family, strength, choose
        self.tagger = with_rule(tagger, rule)

    def __str__(self) -> str:
        if self.strength is None:
            return self.family
        name, *more = self.family.split(", ")  # top_k=8, retrained
        return ", ".join([f"{name}{': ' if name in CONTROLS else '='}{self.strength:.12g}", *more])

    def forward(
        self, jets: JetBatch, return_attention_weights: bool = False
    ) -> Tensor | tuple[Tensor, list[tuple[Tensor, Tensor, Tensor]]]:
        """Run the tagger on the chosen edges; see :meth:`AttentionTagger.forward`."""
        edge_index = None if self.choose is None else self.choose(jets)
        return self.tagger(jets, edge_index, return_attention_weights)


def with_rule(tagger: AttentionTagger, rule: PruningRule | None) -> AttentionTagger:
    """A copy in evaluation mode, with this rule, or none, in all attention layers."""
    tagger = copy.deepcopy(tagger).eval()
    for conv in tagger.convs():
        conv.pruning = rule
    return tagger


def variants(tagger: AttentionTagger, rules: Sequence[PlannedRule]) -> list[Variant]:
    """The model without pruning, with the rule it was trained with, if any, with each rule, and with each control.

    Controls take the strengths of the corresponding rule, or those of :data:`STRENGTHS` if ``rules`` lack that rule.
    """
    own = tagger.convs()[0].pruning
    found = [Variant(UNPRUNED, None, tagger), *([] if own is None else [Variant(AS_TRAINED, None, tagger, own)])]
    found += [Variant(name, strength, tagger, rule) for name, strength, rule in rules]
    for name, (_, sharing) in CONTROLS.items():
        strengths = [rule.strength for rule in rules if rule.name == sharing] or STRENGTHS[sharing]
        found += [Variant(name, strength, tagger, choose=control(name, strength)) for strength in strengths]
    return found


def retrained_variants(models: Mapping[PlannedRule | None, AttentionTagger]) -> list[Variant]:
    """Variants of the models trained further with each rule or without one."""
    return [
        Variant(retrained(UNPRUNED), None, model)
        if rule is None
        else Variant(retrained(rule.name), rule.strength, model, rule.rule)
        for rule, model in models.items()
    ]


def retrained(name: str) -> str:
    """The name of a family or model after further training."""
    return f"{name}, retrained"


def prunable(run: Run, folder: Path) -> AttentionTagger:
    """The model of a run, if it can be pruned.

    Raises:
        RunError: the model has no attention along edges.
    """
    if not isinstance(run.model, AttentionTagger):
        raise RunError(
            f"{folder}: {run.config.model.name} has no edges that a rule could prune; these models have: "
            f"{', '.join(names_of(AttentionTagger))}"
        )
    return run.model
