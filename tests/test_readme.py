import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_examples_run(number, tmp_path, monkeypatch):
    names = {}
    monkeypatch.chdir(tmp_path)
    exec(EXAMPLES[number], names)
    if "logits_go_here" in names:
        assert names["logits_go_here"].shape == (names["jets"].ptr[-1], 13)
        assert len(names["in_memory"]) == len(names["stored"]) == 10_000
    elif "left" in names:
        assert torch.equal(names["left"], names["edge_index"][:, names["edge_ids"]])
        assert names["left"].size(1) < 0.4 * names["edge_index"].size(1)
        assert names["same"].mean() < 0.45 < 0.6 < names["within"]
    elif "graphs" in names:
        assert len(names["graphs"]) == 64
        assert names["graphs"][0].x.shape[1] == 13
    elif "model" in names:
        assert names["model"].node_features == "kin"
        assert names["model"].head[-1].out_features == 10
    else:
        assert names["alpha"].shape == (4, 4)


def test_there_are_examples():
    assert len(EXAMPLES) == 5


def test_files_that_the_readme_names_exist():
    names = re.findall(r"`((?:iagraph|configs|scripts)/[\w/.]*)`", README)
    assert len(names) > 8
    names += [link for link in re.findall(r"\]\(([^)]*)\)", README) if "://" not in link]
    assert not [name for name in names if not (ROOT / name).exists()]
