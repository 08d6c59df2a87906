"""Equality with weaver-core: logits and gradients, weights in both directions, real jets and official checkpoints."""

from copy import deepcopy
from itertools import pairwise

import numpy as np
import pytest
import reference_weaver
import torch
from reader_files import real_file
from weaver.nn.model.ParticleNet import ParticleNetTagger, knn

from iagraph.graph import DenseGraph
from iagraph.jets import JetBatch
from iagraph.kinematics import Momenta, from_cartesian
from iagraph.models import CheckpointError, IAFormer, ParticleNet, ParticleTransformer, load_weaver, save_weaver
from iagraph.models.weaver import to_weaver
from iagraph.testing import random_jets, reordered

# All multiplicities around the 16 neighbours, and large ones, in no order.
COUNTS = [31, *range(18, 0, -1), 128, 61, 19]
AT_ONCE = 25
"""Jets per batch of weaver; the 250 real jets are sorted, so that it pads little."""
BUILD = {"part": reference_weaver.particle_transformer, "particle_net": reference_weaver.particle_net}
SMALL = {
    "part": {
        "embed_dims": [13, 17, 15],
        "pair_embed_dims": [11, 7],
        "num_heads": 3,
        "num_layers": 4,
        "num_cls_layers": 2,
    },
    # The last block has as many outputs as inputs: no shortcut to learn.
    "particle_net": {
        "conv_params": [(16, (11, 13)), (16, (19, 7, 17)), (16, (23, 17))],
        "fc_params": [(29, 0.1)],
    },
}
PUBLISHED = {"part": {}, "particle_net": {}}


def reference(kind, features, classes, sizes=SMALL, dtype=torch.float64, seed=0):
    """A weaver network in evaluation mode with random tensors, norms and their statistics included."""
    torch.manual_seed(seed)
    net = BUILD[kind](reference_weaver.INPUTS[features], classes, **sizes[kind])
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() > 1:  # neither vanishing nor growing with depth
                parameter.copy_(1.3 * torch.randn_like(parameter) / parameter[0].numel() ** 0.5)
            else:
                parameter += 0.2 * torch.randn_like(parameter)
        for name, statistic in net.named_buffers():
            if name.endswith("running_mean"):
                statistic.copy_(0.3 * torch.randn_like(statistic))
            elif name.endswith("running_var"):
                statistic.copy_(0.5 + torch.rand_like(statistic))
            elif name.endswith("num_batches_tracked"):
                statistic.fill_(7)
    return net.to(dtype).eval()


@pytest.fixture
def ours(tmp_path):
    """Save a weaver network as weaver does, and load it."""

    def load(net):
        torch.save(net.state_dict(), tmp_path / "weaver.pt")
        return load_weaver(tmp_path / "weaver.pt")

    return load


def real_jets():
    """The 250 JetClass jets, few particles first; species and impact parameters are made up, as they have none."""
    with np.load(real_file("jetclass_excerpt.npz")) as file:
        p4, counts, label = file["p4"], file["counts"], file["label"]
    momenta = from_cartesian(*torch.tensor(p4, dtype=torch.float64).t())
    made_up = random_jets(counts.tolist())
    momenta = Momenta(*(component.float() for component in momenta))
    jets = JetBatch(momenta, made_up.ptr, made_up.pid, torch.tensor(label), made_up.impact)
    return reordered(jets, np.argsort(counts, kind="stable").tolist())


def official(features):
    """Path of an official checkpoint, and weaver's network with its weights."""
    path = real_file(f"ParticleNet_{features}.pt")
    net = reference_weaver.particle_net(reference_weaver.INPUTS[features], 10).eval()
    net.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"), strict=True)
    return path, net


@torch.no_grad()
def evaluate(net, jets, features, dtype=torch.float32):
    """Logits of a network of weaver."""
    parts = [jets.part(begin, min(begin + AT_ONCE, len(jets))) for begin in range(0, len(jets), AT_ONCE)]
    return torch.cat([net(*reference_weaver.inputs(part, features, dtype)) for part in parts])


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("features", ["kin", "kinpid", "full"])
@pytest.mark.parametrize("kind", ["part", "particle_net"])
class TestLogits:
    def test_in_float64(self, ours, kind, features, classes):
        net, jets = reference(kind, features, classes), random_jets(COUNTS, dtype=torch.float64)
        expected = evaluate(net, jets, features, torch.float64)
        assert expected.std(0).min() > 0.05  # the jets matter
        torch.testing.assert_close(ours(net)(jets), expected, rtol=0, atol=1e-9)

    def test_in_float32(self, ours, kind, features, classes):
        net, jets = reference(kind, features, classes, dtype=torch.float32), random_jets(COUNTS)
        model = ours(net)
        if kind == "part":
            net = reference_weaver.with_exact_pair_features(net)
        torch.testing.assert_close(model(jets), evaluate(net, jets, features), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("features", "classes"), [("kin", 2), ("full", 10)])
@pytest.mark.parametrize("kind", ["part", "particle_net"])
def test_networks_have_the_published_size(ours, kind, features, classes):
    net, jets = reference(kind, features, classes, PUBLISHED), random_jets([61, 1, 17, 5, 16, 128], dtype=torch.float64)
    expected = evaluate(net, jets, features, torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(ours(net)(jets), expected, rtol=0, atol=1e-9)
    net, jets = net.float(), random_jets([61, 1, 17, 5, 16, 128])
    model = ours(net)
    if kind == "part":
        net = reference_weaver.with_exact_pair_features(net)
    with torch.no_grad():
        torch.testing.assert_close(model(jets), evaluate(net, jets, features), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        (ParticleTransformer("kin", num_classes=2), 2_141_134),
        (ParticleTransformer("full", num_classes=10), 2_143_486),
        (ParticleNet("kin", num_classes=2), 366_160),
        (ParticleNet("full", num_classes=10), 370_156),
    ],
)
def test_numbers_of_parameters_are_the_published_ones(model, parameters):
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


@pytest.mark.parametrize("kind", ["part", "particle_net"])
def test_gradients_in_float64(ours, kind):
    net, jets = reference(kind, "full", 3), random_jets(COUNTS, dtype=torch.float64)
    model = ours(net)
    weights = torch.linspace(-1, 1.3, len(jets) * 3, dtype=torch.float64).view(-1, 3)
    (net(*reference_weaver.inputs(jets, "full")) * weights).sum().backward()
    (model(jets) * weights).sum().backward()
    mapped = deepcopy(model)
    for parameter, original in zip(mapped.parameters(), model.parameters(), strict=True):
        parameter.data = original.grad
    gradients = to_weaver(mapped)
    for name, parameter in net.mod.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-9, atol=1e-9, msg=name)


def without_dropout(net):
    """Dropout in weaver's attention is a number, not a module."""
    for module in net.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        elif isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0
    return net.train()


@pytest.mark.parametrize("kind", ["part", "particle_net"])
def test_training_in_float64(ours, kind):
    # Where all jets have as many particles as weaver has slots, its norms see no padding either.
    net, jets = reference(kind, "full", 3), random_jets([20] * 11, dtype=torch.float64)
    model = without_dropout(ours(net))
    net = without_dropout(net)
    expected = net(*reference_weaver.inputs(jets, "full"))
    torch.testing.assert_close(model(jets), expected, rtol=0, atol=1e-9)
    assert (expected - evaluate(net.eval(), jets, "full", torch.float64)).abs().max() > 1e-3
    statistics = to_weaver(model)
    for name, statistic in net.mod.named_buffers():
        if "running" in name or "tracked" in name:
            torch.testing.assert_close(statistics[name], statistic, rtol=0, atol=1e-9, msg=name)


def dropouts(net):
    """Non-zero dropout probabilities of a network; in attention it is a number, not a module."""
    found = []
    for module in net.modules():
        if isinstance(module, torch.nn.Dropout):
            found.append(module.p)
        elif isinstance(getattr(module, "dropout", None), float):
            found.append(module.dropout)
    return [p for p in found if p > 0]


@pytest.mark.parametrize(("make", "kind"), [(ParticleTransformer, "part"), (ParticleNet, "particle_net")])
def test_initialisation_and_dropout_equal_those_of_weaver(make, kind):
    torch.manual_seed(3)
    model = make("full", num_classes=10)
    net = BUILD[kind](17, 10)
    assert dropouts(model) == dropouts(net) == [0.1] * (24 if kind == "part" else 1)
    mine = to_weaver(model)
    for name, parameter in net.mod.named_parameters():
        if parameter.unique().numel() == 1:
            assert torch.equal(mine[name], parameter), name
        elif parameter.numel() > 500:  # few numbers have no sharp width
            assert mine[name].std().item() == pytest.approx(parameter.std().item(), rel=0.1), name
            assert mine[name].abs().max().item() == pytest.approx(parameter.abs().max().item(), rel=0.1), name


def test_float32_rounding_of_pair_masses_in_weaver(ours):
    # Its E^2 - p^2 of a self-pair is mere rounding, which moves its logits a thousand times farther than
    # all other rounding; ours agree with float64. So we compare with its features in float64.
    net, jets = reference("part", "kin", 2), random_jets(COUNTS)
    exact = evaluate(net, jets, "kin", torch.float64)
    net = net.float()
    theirs, mine = evaluate(net, jets, "kin"), ours(net)(jets)
    assert (theirs - exact).abs().max() > 1e-3
    assert (mine - exact).abs().max() < 1e-5


class Neighbors:
    """Record the neighbours chosen by weaver and by us, as sets; -1 is a padded slot."""

    def __init__(self, monkeypatch):
        self.weaver, self.ours, self.given = [], [], []
        nearest = DenseGraph.nearest

        def recorded_knn(points, k):
            self.weaver.append(knn(points, k))
            return self.weaver[-1]

        def recorded_nearest(graph, points, k):
            found = self.given.pop(0) if self.given else nearest(graph, points, k)
            self.ours.append(found)
            return found

        monkeypatch.setattr("weaver.nn.model.ParticleNet.knn", recorded_knn)
        monkeypatch.setattr(DenseGraph, "nearest", recorded_nearest)

    def of_weaver(self, jets):
        """The neighbours of weaver by block, in our form: shape [particles, k]."""
        rows = [[], [], []]
        for call, slots in enumerate(self.weaver):
            for jet, begin, end in self.jets_of_call(jets, call // 3):
                slot = slots[jet, : end - begin]
                rows[call % 3].append(torch.where(slot < end - begin, slot + begin, -1))
        return [torch.cat(block) for block in rows]

    def jets_of_call(self, jets, part):
        """Number within the part, first particle and end of each jet that weaver got at once."""
        bounds = list(pairwise(jets.ptr.tolist()))[part * AT_ONCE : (part + 1) * AT_ONCE]
        return [(number, begin, end) for number, (begin, end) in enumerate(bounds)]

    def differ(self, jets):
        """Whether the neighbours of a jet differ anywhere, shape [jets]."""
        pairs = zip(self.of_weaver(jets), self.ours, strict=True)
        of_particle = sum((one.sort(1)[0] != other.sort(1)[0]).any(1) for one, other in pairs)
        return torch.zeros(len(jets), dtype=torch.long).index_add(0, jets.batch, of_particle.long()) > 0


class TestNeighbors:
    def test_neighbours_agree_in_float64(self, ours, monkeypatch):
        net, jets = reference("particle_net", "kin", 2), random_jets(COUNTS, dtype=torch.float64)
        record = Neighbors(monkeypatch)
        evaluate(net, jets, "kin", torch.float64)
        ours(net)(jets)
        assert [block.shape for block in record.ours] == 3 * [(sum(COUNTS), 16)]
        assert not record.differ(jets).any()
        missing = [(block[jets.batch == COUNTS.index(5)] < 0).sum(1) for block in record.ours]
        assert all((count == 12).all() for count in missing)  # 4 others in a jet of 5

    @pytest.mark.parametrize("features", ["kin", "full"])
    def test_scores_of_real_jets_agree_in_float32_for_equal_neighbours(self, features, monkeypatch):
        # The 16th and the 17th neighbour are sometimes equally near within float32, and weaver drops the nearest
        # entry of its list for the particle itself, which rounding may turn into another. Nothing else differs.
        (path, net), jets = official(features), real_jets()
        model = load_weaver(path)
        record = Neighbors(monkeypatch)
        expected = evaluate(net, jets, features).softmax(1)
        with torch.no_grad():
            scores = model(jets).softmax(1)
        differ = record.differ(jets)
        assert differ.sum() <= 5
        torch.testing.assert_close(scores[~differ], expected[~differ], rtol=0, atol=1e-5)
        # With the neighbours of weaver, the other scores are equal, too. The largest jet goes along, as weaver cuts
        # off slots that are empty in all jets, and fails where less than 17 are left.
        others = reordered(jets, [len(jets) - 1, *differ.nonzero().flatten().tolist()])
        record.weaver.clear()
        theirs = evaluate(net, others, features).softmax(1)
        record.given = record.of_weaver(others)
        with torch.no_grad():
            torch.testing.assert_close(model(others).softmax(1), theirs, rtol=0, atol=1e-5)
        accuracy = (scores.argmax(1) == jets.y).double().mean()
        print(f"{features}: accuracy {accuracy:.3f}, {differ.sum()} jets with other neighbours")
        assert (scores.argmax(1) == expected.argmax(1)).all()
        if features == "kin":  # the species that "full" needs are made up
            assert accuracy > 0.7


@pytest.mark.parametrize("features", ["kin", "full"])
def test_official_weights_in_float64(ours, features):
    _, net = official(features)
    jets = reordered(real_jets().double(), range(3, 250, 9))
    net = net.double()
    with torch.no_grad():
        torch.testing.assert_close(ours(net)(jets), evaluate(net, jets, features, torch.float64), rtol=0, atol=1e-9)


def assert_equal(one, other):
    """Tensors of the same names, types, shapes and bits."""
    assert one.keys() == other.keys()
    for name in one:
        assert (one[name].dtype, one[name].shape) == (other[name].dtype, other[name].shape), name
        assert torch.equal(one[name], other[name]), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("features", ["kin", "kinpid", "full"])
@pytest.mark.parametrize("kind", ["part", "particle_net"])
def test_from_weaver_and_back(tmp_path, kind, features, dtype):
    net = reference(kind, features, 3, dtype=dtype)
    torch.save(net.state_dict(), tmp_path / "theirs.pt")
    model = load_weaver(tmp_path / "theirs.pt")
    assert not model.training
    assert model.node_features == features
    save_weaver(model, tmp_path / "back.pt")
    state = torch.load(tmp_path / "back.pt", weights_only=True)
    assert_equal(state, dict(net.state_dict()))
    reference(kind, features, 3, dtype=dtype, seed=1).load_state_dict(state, strict=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back.pt", "theirs.pt"]


@pytest.mark.parametrize("model", [ParticleTransformer("full", num_classes=3), ParticleNet("full", 3)])
def test_from_iagraph_and_back(tmp_path, model):
    save_weaver(model, tmp_path / "ours.pt")
    assert_equal(load_weaver(tmp_path / "ours.pt").state_dict(), model.state_dict())
    net = BUILD["part" if isinstance(model, ParticleTransformer) else "particle_net"](17, 3)
    net.load_state_dict(torch.load(tmp_path / "ours.pt", weights_only=True), strict=True)


def test_official_files_round_trip_bit_for_bit(tmp_path):
    for features in ("kin", "full"):
        path, _ = official(features)
        save_weaver(load_weaver(path), tmp_path / "back.pt")
        files = [torch.load(file, weights_only=True, map_location="cpu") for file in (path, tmp_path / "back.pt")]
        assert_equal(*map(dict, files))


@pytest.mark.parametrize("prefix", ["mod.", ""])
def test_older_names(tmp_path, prefix):
    net = reference("part", "kin", 2, dtype=torch.float32)
    older = {
        name.replace("in_proj.", "in_proj_").replace("mod.", prefix, 1): tensor
        for name, tensor in net.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    assert len(older) < len(net.state_dict())
    torch.save(older, tmp_path / "older.pt")
    torch.save(net.state_dict(), tmp_path / "newer.pt")
    one, other = (load_weaver(tmp_path / name).state_dict() for name in ("older.pt", "newer.pt"))
    for name in one:
        assert name.endswith("num_batches_tracked") or torch.equal(one[name], other[name])


class TestRefusedToLoad:
    def refuse(self, tmp_path, net_or_state, match):
        state = net_or_state.state_dict() if isinstance(net_or_state, torch.nn.Module) else net_or_state
        torch.save(state, tmp_path / "other.pt")
        with pytest.raises(CheckpointError, match=match) as error:
            load_weaver(tmp_path / "other.pt")
        assert str(error.value).startswith(f"{tmp_path / 'other.pt'}: ")
        return str(error.value)

    def test_eight_features(self, tmp_path):
        for build in BUILD.values():
            self.refuse(tmp_path, build(8, 2), r"takes 8 features, known are 7 \(kin\), 13 \(kinpid\), 17 \(full\)")

    def test_other_versions_of_the_particle_transformer(self, tmp_path):
        text = self.refuse(tmp_path, BUILD["part"](7, 2, version=2), "differences")
        assert "too many: blocks.0.fc1_g.weight 512x128" in text
        assert "missing: blocks.0.c_attn 8" in text
        assert "missing: 48 more" in text
        assert len(text.splitlines()) == 1 + 13 + 13 + 1
        text = self.refuse(tmp_path, BUILD["part"](7, 2, version=3.5), "differences")
        assert "too many: blocks.0.attn.gate_proj.weight 128x128" in text

    def test_fusion_block(self, tmp_path):
        text = self.refuse(tmp_path, BUILD["particle_net"](7, 2, use_fusion=True), "7 differences")
        assert "too many: fusion_block.0.weight 384x448x1" in text
        assert "shape: fc.0.0.weight is 256x384, expected 256x256" in text

    def test_pair_features_of_another_number(self, tmp_path):
        text = self.refuse(tmp_path, BUILD["part"](7, 2, pair_input_dim=5), "differences")
        assert "shape: pair_embed.embed.1.weight is 64x5x1, expected 64x4x1" in text

    def test_two_inputs(self, tmp_path):
        net = ParticleNetTagger(7, 11, 2)
        self.refuse(tmp_path, net, "its modules are pf_conv, pn, sv_conv; give an official checkpoint")

    def test_missing_and_renamed_tensors(self, tmp_path):
        state = reference("part", "kin", 2).state_dict()
        del state["mod.blocks.2.fc2.bias"]
        state["mod.norms.weight"] = state.pop("mod.norm.weight")
        text = self.refuse(tmp_path, state, "differences")
        assert "missing: blocks.2.fc2.bias 15" in text
        assert "too many: norms.weight 15" in text

    def test_heads_that_do_not_divide_the_width(self, tmp_path):
        state = reference("part", "kin", 2).state_dict()
        state["mod.blocks.0.c_attn"] = torch.ones(7)
        self.refuse(tmp_path, state, "cannot be made: .*multiple")

    def test_our_own_weights(self, tmp_path):
        self.refuse(tmp_path, IAFormer(), "is no ParticleTransformer or ParticleNet of weaver.*load_weights")


class TestRefusedToSave:
    def test_models_unknown_to_weaver(self, tmp_path):
        for model, match in [
            (IAFormer(), "weaver has no IAFormer; give a ParticleTransformer or a ParticleNet"),
            (ParticleNet("iaformer"), "weaver has no node features 'iaformer'; train a model with kin, kinpid, full"),
            (ParticleTransformer(pair_features="invariant"), "weaver has no pair features 'invariant'"),
        ]:
            with pytest.raises(CheckpointError, match=match):
                save_weaver(model, tmp_path / "a.pt")
        assert not list(tmp_path.iterdir())

    def test_folder_that_is_not_there(self, tmp_path):
        with pytest.raises(CheckpointError, match=r"no/a\.pt: cannot write"):
            save_weaver(ParticleNet(), tmp_path / "no" / "a.pt")

    def test_full_disk_keeps_the_older_file(self, tmp_path, monkeypatch):
        def fail(_):
            raise OSError(28, "No space left on device")

        (tmp_path / "a.pt").write_text("older")
        monkeypatch.setattr("os.fsync", fail)
        with pytest.raises(CheckpointError, match=r"a\.pt: cannot write"):
            save_weaver(ParticleNet(), tmp_path / "a.pt")
        assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.pt", "older")]
