import numpy as np
import pytest
import torch
from lightning import Trainer
from sklearn.linear_model import LogisticRegression
from toy_runs import toy_jets

from iagraph.data import JetDataset
from iagraph.jets import JetBatch
from iagraph.models import CascadedIAFormer
from iagraph.nn import TopK
from iagraph.testing import random_jets
from iagraph.train.config import TrainConfig
from iagraph.train.evaluation import MultiplicityTagger, flops_per_jet
from iagraph.train.module import Tagger, labels_of
from iagraph.train.schedules import Tightening, warmup_cosine


def test_schedule_by_hand():
    values = [warmup_cosine(p, 0.2, 0.1) for p in (0.0, 0.1, 0.2, 0.6, 1.0, 1.1)]
    assert values == pytest.approx([0.01, 0.5, 1.0, 0.55, 0.1, 0.1])
    assert warmup_cosine(0.0, 0.0, 0.0) == 1.0


@pytest.mark.parametrize(
    ("shape", "expected"),
    [("linear", [0, 0.3, 0.5, 0.8]), ("cosine", [0, 0.2061074, 0.5, 0.9045085]), ("steps", [0, 0.25, 0.5, 0.75])],
)
def test_tightening_follows_its_shape(shape, expected):
    values = [Tightening(0.4, shape).at(0.4 * p) for p in (0, 0.3, 0.5, 0.8)]
    assert values == pytest.approx(expected)
    assert [Tightening(0.4, shape).at(p) for p in (0.41, 1.0, 1.1)] == [1, 1, 1]
    assert Tightening(0.0, shape).at(0.0) == 1


def test_labels_are_required():
    jets = random_jets([3])
    assert labels_of(jets) is jets.y
    with pytest.raises(ValueError, match="no labels"):
        labels_of(JetBatch(jets.momenta, jets.ptr))


def test_gates_and_rules_tighten_over_a_fraction_of_the_training():
    settings = {"epochs": 2, "learning_rate": 1e-3, "min_learning_rate": 0.0, "warmup": 0.0, "weight_decay": 0.0}
    config = TrainConfig(**settings, patience=1, clip=None, tighten=0.5)
    model = CascadedIAFormer(width=5, blocks=1, heads=5, pair_width=3, gate_fraction=0.3, pruning=TopK(k=2))
    tagger = Tagger(model, config, 1, jets_per_epoch=10)
    tagger.log = lambda *_, **__: None
    quiet = dict.fromkeys(["logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"], False)
    tagger.trainer = Trainer(accelerator="cpu", **quiet)
    found = []
    for _ in range(5):
        tagger.training_step(random_jets([7, 5, 2, 9]), 0)
        found.append((model.pair_inputs.gate.tightness, model.convs()[0].tightness))
    assert found == [(share, share) for share in (0.0, 0.4, 0.8, 1.0, 1.0)]  # 4 jets of the 10 over which they tighten


class OneProduct(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(7, 5))

    def forward(self, jets):
        return jets.node_features("kin") @ self.weight


def test_flops_are_two_per_multiply_add_of_real_particles():
    # 3 + 8 particles in two jets, 7 x 5 multiply-adds each.
    assert flops_per_jet(OneProduct(), random_jets([3, 8])) == 2 * 11 * 7 * 5 / 2


class WithNormAndToken(OneProduct):
    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(7)
        self.token = torch.nn.Linear(7, 3)
        self.start = torch.nn.Parameter(torch.ones(7))

    def forward(self, jets):
        self.token(self.start.expand(len(jets), -1))
        return self.norm(jets.node_features("kin")) @ self.weight


def test_counting_flops_leaves_the_model_unchanged():
    model = WithNormAndToken()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert flops_per_jet(model, random_jets([3, 8])) == 2 * (11 * 7 * 5 + 2 * 7 * 3) / 2
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_multiplicity_tagger_is_linear_per_class():
    tagger = MultiplicityTagger(slopes=[0, -0.5, 0.25], intercepts=[0, 3, 1])
    assert tagger(np.array([2, 8])).tolist() == [[0, 2, 1.5], [0, -1, 3]]


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_multiplicity_tagger_is_a_logistic_regression(classes):
    jets = toy_jets(700, 5, classes)
    tagger = MultiplicityTagger.fit(JetDataset(jets))
    assert (tagger.slopes[0], tagger.intercepts[0], len(tagger.slopes)) == (0, 0, classes)
    logits = tagger(jets.counts)
    odds = np.exp(logits - logits.max(1, keepdims=True))
    fit = LogisticRegression(solver="newton-cg", tol=1e-10, max_iter=1000).fit(jets.counts[:, None], jets.label)
    np.testing.assert_allclose(odds / odds.sum(1, keepdims=True), fit.predict_proba(jets.counts[:, None]), atol=1e-6)
    # Where the likelihood is highest, each class gets as many jets as there are (intercepts are not regularised).
    np.testing.assert_allclose((odds / odds.sum(1, keepdims=True)).sum(0), np.bincount(jets.label), rtol=2e-3)


def test_evaluation_ends_on_request(monkeypatch):
    trainer = type("Told", (), {"received_sigterm": False})()
    monkeypatch.setattr(Tagger, "trainer", trainer)
    tagger = Tagger.__new__(Tagger)
    tagger.on_predict_batch_end(None, None, 0)
    trainer.received_sigterm = True
    with pytest.raises(SystemExit) as caught:
        tagger.on_predict_batch_end(None, None, 0)
    assert caught.value.code == 143
