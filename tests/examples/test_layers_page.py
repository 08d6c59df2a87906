"""The examples of docs/layers.md."""

import re
from pathlib import Path

import torch

PAGE = (Path(__file__).parents[2] / "docs" / "layers.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


def test_lazy_bipartite_layer(capsys):
    names = {}
    exec(BLOCKS[0], names)
    assert names["out"].shape == (20, 16)
    assert names["alpha"].shape == (200, 4)
    printed = capsys.readouterr().out
    assert printed.startswith("DifferentialTransformerConv((-1, -1), 16, heads=4, edge_dim=3) torch.Size([20, 16])")


def test_custom_layer():
    names = {}
    exec(BLOCKS[1], names)
    arrived = torch.bincount(names["edge_index"][1], minlength=9) > 0
    torch.testing.assert_close(names["sums"], (arrived.unsqueeze(1) * (1 - names["conv"].beta)).detach().expand(9, 4))
