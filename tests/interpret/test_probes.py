import math

import numpy as np
import pytest

from iagraph.interpret.probes import class_probe, regression_probe, regression_probes
from iagraph.metrics import roc_auc

RANDOM = np.random.default_rng(1)
VECTORS = RANDOM.normal(size=(600, 17)) * np.linspace(0.1, 50, 17)
PLANTED = 3 * VECTORS[:, 2] - 0.1 * VECTORS[:, 11] + 7


def test_planted_observable_is_found():
    assert regression_probe(VECTORS, PLANTED).r2.value == pytest.approx(1, abs=1e-4)
    noisy = PLANTED / PLANTED.std() + RANDOM.normal(size=600)
    r2, jets = regression_probe(VECTORS, noisy)
    assert abs(r2.value - 0.5) < 4 * r2.error
    assert 0.01 < r2.error < 0.1
    assert jets == 300


def test_noise_is_not_found():
    pulls = []
    for seed in range(10):
        r2, _ = regression_probe(VECTORS, np.random.default_rng(seed).normal(size=600))
        assert -0.2 < r2.value < 2 * r2.error
        pulls.append(r2.value)
    assert np.mean(pulls) < 0.01


def test_errors_are_those_of_repetitions():
    values, errors = [], []
    for seed in range(40):
        random = np.random.default_rng(seed)
        vectors = random.normal(size=(600, 3))
        r2, _ = regression_probe(vectors, vectors[:, 0] + random.normal(size=600))
        values.append(r2.value)
        errors.append(r2.error)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.35)


def test_control_is_projected_out():
    control = VECTORS[:, 5]
    target = 4 * control + 1  # fully explained by the control
    assert math.isnan(regression_probe(VECTORS, target, control).r2.value)
    hidden = RANDOM.normal(size=600)  # independent of the vectors
    both = regression_probe(VECTORS, 4 * control + 10 * hidden, control)
    assert both.r2.value < 2 * both.r2.error
    assert regression_probe(VECTORS, 4 * control + 10 * hidden).r2.value > 0.9
    assert regression_probe(VECTORS, PLANTED + 100 * hidden, hidden).r2.value > 0.99


def test_constant_targets_and_few_jets_have_no_score():
    target = PLANTED.copy()
    target[:31] = math.nan
    r2, jets = regression_probe(VECTORS, target)
    assert r2.value == pytest.approx(1, abs=1e-4)
    assert 300 - 31 <= jets < 300
    assert math.isnan(regression_probe(VECTORS, np.full(600, 0.3)).r2.value)
    assert math.isnan(regression_probe(VECTORS[:30], PLANTED[:30]).r2.value)
    assert math.isnan(regression_probe(VECTORS, PLANTED, np.ones(600)).r2.value)


def test_several_targets_at_once():
    observables = {"a": PLANTED, "b": VECTORS[:, 0]}
    found = regression_probes(VECTORS, observables, {"a": PLANTED})
    assert set(found) == {("a", "none"), ("b", "none"), ("b", "a")}
    assert found["b", "a"] == regression_probe(VECTORS, VECTORS[:, 0], PLANTED)


def test_class_probe():
    labels = (VECTORS[:, 3] > 0).astype(int)
    assert roc_auc(labels, class_probe(VECTORS, labels)).value > 0.99
    noise = np.random.default_rng(5).integers(0, 2, 600)
    auc = roc_auc(noise, class_probe(VECTORS, noise))
    assert auc.value < 0.5 + 3 * auc.error
    assert class_probe(VECTORS, np.arange(600) % 3).shape == (600, 3)
