"""Write a small model of each kind with this version, to test that later versions can read it.

python tests/models/make_trained.py
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))

from toy_models import TOYS, toy
from toy_runs import toy_jets

import iagraph
from iagraph.data import write_store
from iagraph.testing import random_jets
from iagraph.train.run import train_into

HERE = Path(__file__).resolve().parent / "trained"

with tempfile.TemporaryDirectory() as place:
    os.chdir(place)  # so that what is recorded names no folder of this machine
    store = Path("jets.h5")
    write_store(store, toy_jets(500, 1), splits={"train": 300, "val": 80, "test": 120})
    for name in TOYS:
        stored = HERE / f"{name}-{iagraph.__version__}"
        if stored.exists():
            sys.exit(f"{stored}: is there, and must stay")
        train_into(Path(name), toy(name, store, "runs", "data.node_features=kinpid"))
        stored.mkdir(parents=True)
        for file in ("model.pt", "model.json", "config.yaml"):
            shutil.copy(Path(name) / file, stored)
        with torch.inference_mode():
            logits = iagraph.load(stored)(random_jets([5, 1, 0, 17], 3))
        np.save(stored / "logits.npy", logits.numpy(), allow_pickle=False)
