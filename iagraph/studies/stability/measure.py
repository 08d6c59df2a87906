"""Variation of model outputs between training seeds, and when jets are measured slightly differently."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax
from scipy.stats import spearmanr
from torch import Generator

from iagraph.estimates import Array, OverSeeds, Truth, jackknife_error, mean
from iagraph.interpret.perturbations import drop_particles, drop_soft, smear_direction, smear_pt
from iagraph.jets import JetBatch
from iagraph.metrics import Estimate, accuracy
from iagraph.studies.runs import OpenRun

NOT_A_DIFFERENCE = {"seed", "name", "output"}
"""Keys of a configuration in which runs of a group may differ."""

GROUPS = 20
"""Number of groups of jets in the jackknife for errors of rank correlations."""

SEEDS = 3
"""Number of repetitions of each random change."""


class Group(NamedTuple):
    """Runs of one configuration.

    Attributes:
        name: name of the group.
        runs: their indices among all runs.
        training_jets: number of training jets of each run.
    """

    name: str
    runs: list[int]
    training_jets: int


def grouped(runs: Sequence[OpenRun]) -> list[Group]:
    """Groups of runs whose configurations differ only by ``seed``, ``name`` and ``output``, in order of appearance.

    A group has the name of its first run's configuration, with the name of that run added if ambiguous.
    """
    recipes = [run.run.config.model_dump(exclude=NOT_A_DIFFERENCE) for run in runs]
    members = [[k for k, other in enumerate(recipes) if other == recipe] for recipe in recipes]
    members = [group for number, group in enumerate(members) if group[0] == number]
    titles = [runs[group[0]].run.config.name for group in members]
    titles = [
        title if titles.count(title) == 1 else f"{title} ({runs[group[0]].name})"
        for title, group in zip(titles, members, strict=True)
    ]
    trained = [runs[group[0]].run.training_jets for group in members]
    return [Group(*each) for each in zip(titles, members, trained, strict=True)]


def total_variation(one: Array, other: Array) -> Array:
    r"""Total variation distance between probabilities, :math:`\frac12 \sum_c |p_c - q_c|`, one minus their overlap.

    Takes logits of the same jets, shape [..., classes]; for two classes it is the absolute change of the signal
    probability.

    Returns:
        Shape [...].
    """
    distance: Array = np.abs(softmax(one, axis=-1) - softmax(other, axis=-1)).sum(axis=-1) / 2
    return distance


def flips(one: Array, other: Array) -> Array:
    """1 where the most probable classes differ, otherwise 0; logits of shape [..., classes]."""
    return (one.argmax(axis=-1) != other.argmax(axis=-1)).astype(np.float64)


class Spread(NamedTuple):
    """Spread of the runs of a group on the same jets; errors, absent from the first two, take jets as independent.

    Attributes:
        auc: AUC of each run.
        accuracy: accuracy of each run.
        deviation: standard deviation over the runs of the probability of the true class, mean over jets, divided by
            c4 to remove the bias of few runs.
        variation: mean total variation between two runs.
        flip_rate: fraction of jets that two runs classify differently.
        rank_correlation: Spearman's correlation of the log-odds of a class in two runs, mean over classes.
    """

    auc: OverSeeds
    accuracy: OverSeeds
    deviation: Estimate
    variation: Estimate
    flip_rate: Estimate
    rank_correlation: Estimate


def spread(logits: Array, jets: Truth) -> Spread:
    """Spread of the outputs of runs on the same jets.

    Args:
        logits: shape [runs, jets, classes], at least two runs.
        jets: classes of the jets.

    Raises:
        ValueError: there is only one run.
    """
    runs = len(logits)
    if runs < 2:
        raise ValueError("one run has no spread: give the logits of two or more")
    pairs = list(combinations(logits, 2))
    return Spread(
        OverSeeds(tuple(jets.auc(one).value for one in logits)),
        OverSeeds(tuple(accuracy(jets.labels, one).value for one in logits)),
        mean(deviations(logits, jets.labels)),
        mean(np.mean([total_variation(*pair) for pair in pairs], axis=0)),
        mean(np.mean([flips(*pair) for pair in pairs], axis=0)),
        _jackknife(lambda kept: rank_correlation([one[kept] for one in logits]), len(jets.labels)),
    )


def deviations(logits: Array, labels: NDArray[np.int64]) -> Array:
    """Standard deviation over runs of the probability of each jet's true class, unbiased, shape [jets].

    Takes logits of shape [runs, jets, classes].
    """
    runs = len(logits)
    true = softmax(logits, axis=-1)[:, np.arange(len(labels)), labels]
    c4 = math.sqrt(2 / (runs - 1)) * math.gamma(runs / 2) / math.gamma((runs - 1) / 2)
    deviation: Array = true.std(axis=0, ddof=1) / c4
    return deviation


def rank_correlation(logits: Sequence[Array]) -> float:
    """Spearman's correlation of the log-odds of each class in two runs, mean over classes and pairs of runs."""
    odds = [_log_odds(one) for one in logits]
    classes = range(odds[0].shape[1])
    found = [spearmanr(one[:, k], other[:, k]).statistic for one, other in combinations(odds, 2) for k in classes]
    return float(np.mean(found))


def _log_odds(logits: Array) -> Array:
    others = [logsumexp(np.delete(logits, k, axis=1), axis=1) for k in range(logits.shape[1])]
    return logits - np.stack(others, axis=1)


def _jackknife(statistic: Callable[[NDArray[np.bool_]], float], jets: int) -> Estimate:
    """A statistic of the jets, with its jackknife error from leaving out each of :data:`GROUPS` groups in turn."""
    group = np.arange(jets) % GROUPS
    without = torch.tensor([statistic(group != number) for number in range(GROUPS)], dtype=torch.float64)
    return Estimate(statistic(group >= 0), float(jackknife_error(without)))


class Kind(NamedTuple):
    """A way to change jets.

    Attributes:
        name: name of the change.
        unit: label of the axis of sizes.
        sizes: sizes in ascending order.
        change: function of jets, a size and, if random, a random generator.
        random: whether it needs random numbers.
    """

    name: str
    unit: str
    sizes: tuple[float, ...]
    change: Callable[..., JetBatch]
    random: bool = True

    def changes(self, size: float) -> list[Callable[[JetBatch], JetBatch]]:
        """Changes of this size, one per seed if random; each continues its random numbers from batch to batch."""

        def with_numbers_from(*generator: Generator) -> Callable[[JetBatch], JetBatch]:
            return lambda jets: self.change(jets, size, *generator)

        if not self.random:
            return [with_numbers_from()]
        return [with_numbers_from(Generator().manual_seed(seed)) for seed in range(1, SEEDS + 1)]


KINDS = (
    Kind("smeared pT", "relative resolution of $p_T$", (0.01, 0.02, 0.05, 0.1), smear_pt),
    Kind("smeared directions", r"resolution of $y$ and $\phi$ [rad]", (0.005, 0.01, 0.02), smear_direction),
    Kind("lost particles", "probability to lose a particle", (0.05, 0.1, 0.2), drop_particles),
    Kind("lost soft particles", "lost below $p_T$ [GeV]", (0.5, 1.0, 2.0), drop_soft, random=False),
)
"""Changes to the jets in the study."""


class Response(NamedTuple):
    """Effect of a change to the jets on the outputs of a run, mean over the seeds of the random numbers.

    Errors are those of the finite number of jets. That of the AUC is the mean of the errors for single seeds, and so
    somewhat too large; the others are those of the mean over seeds.

    Attributes:
        kind: name of the change.
        size: size of the change.
        auc_change: AUC on the changed jets minus that on the unchanged jets.
        accuracy_change: change of the accuracy, likewise.
        variation: mean absolute change of the signal probability; total variation for more classes.
        flip_rate: fraction of jets whose most probable class changes.
    """

    kind: str
    size: float
    auc_change: Estimate
    accuracy_change: Estimate
    variation: Estimate
    flip_rate: Estimate


def no_change(jets: JetBatch) -> JetBatch:
    """The unchanged jets."""
    return jets


@torch.inference_mode()
def logits_of(run: OpenRun, change: Callable[[JetBatch], JetBatch] = no_change) -> Array:
    """Logits of the jets of a run after a change, shape [jets, classes]."""
    parts = [run.model(change(batch).to(run.device)).double().cpu().numpy() for batch in run.batches]
    return np.concatenate(parts)


def response(kind: str, size: float, changed: Sequence[Array], before: Array, jets: Truth) -> Response:
    """Response to a change, from the logits before and after it.

    Args:
        kind: name of the change.
        size: size of the change.
        changed: logits of the changed jets, for each seed, shape [jets, classes].
        before: logits of the unchanged jets.
        jets: classes of the jets.
    """
    aucs = [jets.auc_change(logits, before) for logits in changed]
    right = before.argmax(axis=1) == jets.labels
    gains = [(logits.argmax(axis=1) == jets.labels) * 1.0 - right for logits in changed]
    return Response(
        kind,
        size,
        Estimate(*(float(np.mean(each)) for each in zip(*aucs, strict=True))),
        mean(np.mean(gains, axis=0)),
        mean(np.mean([total_variation(logits, before) for logits in changed], axis=0)),
        mean(np.mean([flips(logits, before) for logits in changed], axis=0)),
    )


def responses(run: OpenRun, before: Array, kinds: Sequence[Kind] = KINDS) -> list[Response]:
    """Responses of a run's outputs to each change of each size; ``before``: logits of the unchanged jets."""
    return [
        response(kind.name, size, [logits_of(run, change) for change in kind.changes(size)], before, run.truth)
        for kind in kinds
        for size in kind.sizes
    ]
