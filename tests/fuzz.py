"""Coverage-guided fuzzing of readers of foreign files: damaged files must end in an error message, not in a crash.

    pip install atheris
    python tests/fuzz.py store -max_total_time=300

The first argument is one of store, top, energyflow, jetclass, weights, config; what follows goes to libFuzzer. It
begins with valid files. An input that crashes, takes more than 25 s or more than 2 GB, or raises anything but the
errors meant for users stops it, and is kept in a file.
"""

import os
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["iagraph"]):
    from iagraph.data import StoreError, open_jets, write_store
    from iagraph.models import CheckpointError
    from iagraph.models.state_dicts import read_state_dict, write_state_dict
    from iagraph.train.config import load_config
    from iagraph.yaml_config import ConfigError

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent / "helpers"))

from data.conftest import numbered_jets
from reader_files import random_momenta, write_jetclass, write_top

USER_ERRORS = (StoreError, CheckpointError, ConfigError)
COUNTS = [3, 1, 0, 5]


def _store(path):
    write_store(path, numbered_jets(COUNTS), splits={"train": 3, "test": 1})


def _energyflow(path):
    rng = np.random.default_rng(1)
    jets = np.zeros((4, 5, 4))
    for jet, count in enumerate(COUNTS):
        jets[jet, :count] = rng.uniform(0.1, 1, (count, 4)) * [50, 1, 1, 0] + [0, 0, 0, 211]
    with path.open("wb") as file:
        np.savez(file, X=jets, y=np.arange(4) % 2)


SEEDS = {
    "store": _store,
    "top": lambda path: write_top(path, random_momenta(COUNTS), np.arange(4) % 2),
    "energyflow": _energyflow,
    "jetclass": lambda path: write_jetclass(path, random_momenta(COUNTS), np.arange(4)),
    "weights": lambda path: write_state_dict(path, {"head.weight": torch.arange(6.0).view(2, 3)}),
    "config": lambda path: path.write_bytes((Path(__file__).parents[1] / "configs" / "qg.yaml").read_bytes()),
}


def _read(kind, path):
    if kind == "weights":
        read_state_dict(path)
    elif kind == "config":
        load_config(path)
    else:
        for part in open_jets(path).parts():
            part.validate("what was read")


def main():
    """Fuzzes one kind of file."""
    kind = sys.argv[1] if len(sys.argv) > 1 else ""
    if kind not in SEEDS:
        sys.exit(f"give one of {', '.join(SEEDS)}")
    folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    corpus = folder / "corpus"
    corpus.mkdir()
    SEEDS[kind](corpus / f"valid.{'root' if kind == 'jetclass' else 'h5'}")
    path = folder / "input"

    def one(data):
        path.write_bytes(data)
        try:
            _read(kind, path)
        except USER_ERRORS as error:
            if str(path) not in str(error):
                raise AssertionError(f"the message does not name the file: {error}") from error

    options = ["-rss_limit_mb=2048", "-timeout=25", *sys.argv[2:]]
    atheris.Setup([sys.argv[0], *options, str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
