"""The claim of the README: the whole first recipe on the shipped jets."""

import json
import time
from pathlib import Path

import pytest

from iagraph.train.config import load_config
from iagraph.train.run import train

RECIPE = Path(__file__).parents[1] / "configs" / "qg.yaml"


@pytest.mark.slow
def test_first_recipe_beats_multiplicity_by_three_percent(tmp_path, capsys):
    start = time.perf_counter()
    run = train(load_config(RECIPE, [f"output={tmp_path}"]))
    with capsys.disabled():
        print(f"\n{time.perf_counter() - start:.0f} s\n{(run / 'report.md').read_text()}")
    gain = json.loads((run / "metrics.json").read_text())["auc_gain_over_multiplicity"]
    assert gain["value"] > 0.03
