"""ParticleNet trained here and weaver's trained by the same recipe must be equally good."""

from pathlib import Path

import numpy as np
import pytest
import reference_weaver
from lightning import seed_everything
from torch import nn

from iagraph.metrics import roc_auc
from iagraph.models import ParticleNet
from iagraph.train.config import load_config
from iagraph.train.datamodule import JetDataModule
from iagraph.train.module import Tagger
from iagraph.train.trainer import make_trainer, quiet

RECIPE = Path(__file__).parents[1] / "configs" / "qg_particlenet.yaml"
# ParticleNet-Lite of arXiv 1902.08570: a thirtieth of the cost, so that several seeds can be trained.
CHANNELS, NEIGHBORS, HIDDEN = ((32, 32, 32), (64, 64, 64)), 7, 128


class Weaver(nn.Module):
    """weaver's ParticleNet as a model of a JetBatch; in training it trims and shuffles as it does in weaver."""

    def __init__(self):
        super().__init__()
        convolutions = [(NEIGHBORS, channels) for channels in CHANNELS]
        self.net = reference_weaver.particle_net(13, 2, conv_params=convolutions, fc_params=[(HIDDEN, 0.1)])

    def forward(self, jets):
        points, features, vectors, mask = reference_weaver.inputs(jets, "kinpid", self.net.mod.fc[1].weight.dtype)
        return self.net(points, features, vectors, mask)


def ours():
    return ParticleNet("kinpid", 2, CHANNELS, NEIGHBORS, HIDDEN)


@quiet()
def auc_after_training(make, seed, *changes):
    config = load_config(RECIPE, [f"seed={seed}", "train.device=cpu", *changes])
    seed_everything(seed, verbose=False)
    data = JetDataModule(config.data, seed)
    tagger = Tagger(make(), config.train, data.signal, len(data.datasets["train"]))
    still = {"enable_progress_bar": False}
    make_trainer(config, max_epochs=config.train.epochs, gradient_clip_val=config.train.clip, **still).fit(tagger, data)
    logits = make_trainer(config, **still).predict(tagger, data.test_dataloader())
    return roc_auc(data.datasets["test"].label, np.concatenate([part.numpy() for part in logits]), data.signal).value


@pytest.mark.slow
def test_same_auc_within_the_spread_of_seeds(capsys):
    seeds = range(1, 4)
    mine = [auc_after_training(ours, seed, "data.max_jets=5000") for seed in seeds]
    theirs = [auc_after_training(Weaver, seed, "data.max_jets=5000") for seed in seeds]
    with capsys.disabled():
        print(f"\nAUC of ParticleNet-Lite, ours: {np.round(mine, 4)}, weaver's: {np.round(theirs, 4)}")
    error = np.sqrt((np.var(mine, ddof=1) + np.var(theirs, ddof=1)) / len(seeds))
    assert min(*mine, *theirs) > 0.85
    assert error < 0.004  # else equality means nothing
    assert abs(np.mean(mine) - np.mean(theirs)) < 3 * max(error, 0.001)  # three seeds may happen to agree
