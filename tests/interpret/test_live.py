import json
import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import torch
from interpret.test_display import a_jet

from iagraph.interpret.display import ShownJet, hulls, shown_jet
from iagraph.interpret.live import live_data, live_jet
from iagraph.interpret.particles import SPECIES
from iagraph.interpret.recording import record_attention
from iagraph.models import IAFormer
from iagraph.testing import random_jets

COUNTS = [5, 0, 1, 7]


@pytest.fixture(scope="module")
def shown():
    torch.manual_seed(1)
    model = IAFormer(width=6, blocks=2, heads=3, particle_hidden=[7], pair_hidden=[5], pair_width=11).eval()
    jets = random_jets(COUNTS, 1)
    with torch.no_grad():
        recording = record_attention(model, jets)
    jets_shown = [shown_jet(jets, number, recording) for number in range(4)]
    return [*jets_shown, shown_jet(replace(jets, pid=None), 3)]


def data_in(text):
    (found,) = re.findall(r'<script type="application/json">(.*?)</script>', text, re.DOTALL)
    return json.loads(found)


def test_numbers_equal_the_recording(shown):
    for jet in shown:
        data = data_in(live_jet(jet, "A jet"))
        assert data == live_data(jet)
        for (graph, heads), layer in zip(data["layers"], jet.layers, strict=True):
            source, target, _ = data["graphs"][graph]
            assert source == layer.source.tolist()
            assert target == layer.target.tolist()
            np.testing.assert_allclose(np.array(heads).reshape(layer.weights.T.shape), layer.weights.T, atol=5.001e-4)
        columns = np.array(data["particles"]).reshape(-1, 4).T
        np.testing.assert_allclose(columns[:3], [jet.pt, jet.y, jet.phi], atol=5.1e-3)
        if jet.species is not None:
            assert [data["kinds"][int(kind)] for kind in columns[3]] == [SPECIES[kind] for kind in jet.species]
    assert [data_in(live_jet(jet, ""))["known"] for jet in shown[3:]] == [True, False]


def test_edges_are_written_once_for_all_layers(shown):
    data = live_data(shown[3])
    assert len(data["graphs"]) == 1
    assert [graph for graph, _ in data["layers"]] == [0, 0]


def test_subjets():
    jet = a_jet(np.array([0, 0, 1, 1]))
    data = live_data(jet)
    assert data["graphs"][0][2] == [1, 0, 1, 1, 0]
    assert data["hulls"] == [corners.tolist() for corners in hulls(jet)]
    assert live_data(a_jet())["hulls"] == []


def test_text_is_escaped(shown, monkeypatch):
    monkeypatch.setattr("iagraph.interpret.live.SPECIES", ("</script><!--<script>", *SPECIES[1:]))
    text = live_jet(shown[0], '</script><b a="$x">')
    assert text.count("<script") == text.count("</script>") == 2
    assert "<!--" not in text
    assert "<b a" not in text
    assert "&lt;/script&gt;&lt;b a=&#34;$x&#34;&gt;" in text
    assert data_in(text)["kinds"][0] == "</script><!--<script>"


def test_displays_on_one_page_have_unique_names(shown):
    texts = [live_jet(shown[0], "A"), live_jet(shown[0], "B"), live_jet(shown[3], "A")]
    names = [re.findall(r'\bid="(.*?)"', text) for text in texts]
    assert all(len(mine) == 1 for mine in names)
    assert len({mine[0] for mine in names}) == 3
    assert live_jet(shown[0], "A") == texts[0]


def test_page_loads_nothing(shown):
    text = live_jet(shown[0], "A")
    assert set(re.findall(r"https?://[^\"]*", text)) == {"http://www.w3.org/2000/svg"}  # a name, not a place
    assert not re.search(r"\b(src|href|import|fetch)\b", text)


DOM = """
class Element {
  constructor(tag) { Object.assign(this, {tag, set: {}, childNodes: [], on: {}, options: [], value: ""}); }
  setAttribute(key, value) { if (/NaN|undefined/.test(value)) throw Error(key + value); this.set[key] = value; }
  appendChild(child) { this.childNodes.push(child); }
  replaceChildren() { this.childNodes = []; this.options = []; this.value = ""; }
  addEventListener(name, react) { this.on[name] = react; }
  add(option) { this.options.push(option); if (this.options.length === 1) this.value = String(option.value); }
}
globalThis.Option = function (text, value) { this.value = value; };
const parts = {}, get = name => parts[name] ??= new Element(name);
get('script[type="application/json"]').textContent = JSON.stringify(DATA);
const of = name => get('[data-choice="' + name + '"]'), out = get('[data-out="about"]');
of("threshold").value = "0.2";
globalThis.document = {
  currentScript: {parentElement: {querySelector: get}}, createElementNS: (_, tag) => new Element(tag)
};
"""

READ = """
const [lines, dots] = get("svg").childNodes.filter(child => child.tag === "g"), seen = [];
const look = () => seen.push([lines.childNodes.map(line => [
  line.set.stroke, "stroke-dasharray" in line.set]), out.textContent]);
look();
of("head").value = "1"; of("head").on.change(); look();
of("threshold").value = "0"; of("threshold").on.input(); look();
if (dots.childNodes.length) { dots.childNodes[3].on.mouseenter(); look(); dots.childNodes[3].on.mouseleave(); look(); }
console.log(JSON.stringify(seen));
"""


def play(jet):
    """The display at first, for the second head, for all weights, and with the fourth particle selected."""
    text = live_jet(jet, "A")
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    program = DOM.replace("DATA", json.dumps(data_in(text))) + script + READ
    return json.loads(subprocess.run(["node", "-e", program], check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js to run the script")
def test_display_shows_selected_edges():
    blue, red = "#0072B2", "#D55E00"
    first, second, low, pointed, after = play(a_jet(np.array([0, 0, 1, 1])))
    assert first[0] == [[blue, False], [blue, True], [red, False]]
    assert first[1].startswith("4 particles, 3 edges")
    assert second[0] == [[red, False], [blue, False]]
    assert low[0] == [[red, False], [blue, True], [blue, False], [red, True]]
    assert pointed[0] == [[blue, False], [red, True]]
    numbers = ["3", "5", "0.2", "0.1", "3", "1", "2", "0.2", "0", "-0.1"]  # particle, pT, y, phi, and its edges
    assert re.findall(r"-?\d+(?:\.\d+)?", pointed[1]) == numbers
    assert "muon" in pointed[1]
    assert after == low
    nothing = np.empty(0)
    empty = play(ShownJet(nothing, nothing, nothing, None, None, []))
    assert [lines for lines, _ in empty] == [[], [], []]
    assert empty[0][1].startswith("0 particles, 0 edges")
