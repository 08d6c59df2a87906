import os
import zipfile
from dataclasses import dataclass

import pytest
import reference_weaver
import torch

from iagraph.models import (
    CascadedIAFormer,
    CheckpointError,
    GatedIAFormer,
    IAFormer,
    ParticleNet,
    ParticleTransformer,
    load_weaver,
    load_weights,
    save_weaver,
)
from iagraph.testing import random_jets

SMALL = {"width": 6, "blocks": 2, "heads": 3, "particle_hidden": (7,), "pair_hidden": (5,), "pair_width": 4}
NET = {"channels": ((5, 7), (7, 11)), "neighbors": 3, "head_hidden": 13}


def iaformer(**changes):
    return IAFormer(**SMALL | changes)


def particle_net(**changes):
    return ParticleNet(**NET | changes)


def particle_transformer(**changes):
    return ParticleTransformer(**{"width": 6, "blocks": 2, "heads": 3, "particle_hidden": (7,)} | changes)


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def refused(model, path, match, new_head=False):
    """The message with which a file is refused; it names the file, and the model stays as it was."""
    before = weights(model)
    with pytest.raises(CheckpointError, match=match) as error:
        load_weights(model, path, new_head)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert str(error.value).startswith(str(path))
    return str(error.value)


@pytest.fixture(params=["ours", "weaver", "run folder"])
def written(request, tmp_path):
    """Write a model in each supported format."""

    def write(model):
        if request.param == "weaver":
            if isinstance(model, IAFormer):
                pytest.skip("weaver has no IAFormer")
            save_weaver(model, tmp_path / "ParT_kin.pt")
            return tmp_path / "ParT_kin.pt"
        torch.save(model.state_dict(), tmp_path / "model.pt")
        return tmp_path / "model.pt" if request.param == "ours" else tmp_path

    return write


@pytest.mark.parametrize("build", [iaformer, particle_net, particle_transformer])
class TestLoading:
    def test_load_gives_the_same_model(self, written, build):
        torch.manual_seed(1)
        source, model = build(num_classes=3), build(num_classes=3)
        load_weights(model, str(written(source)))
        assert all(torch.equal(tensor, source.state_dict()[name]) for name, tensor in model.state_dict().items())
        jets = random_jets([5, 1, 7])
        assert torch.equal(model.eval()(jets), source.eval()(jets))

    def test_new_head_is_not_overwritten(self, written, build):
        torch.manual_seed(1)
        source, model = build(num_classes=10), build(num_classes=2)
        before = weights(model)
        path = written(source)
        refused(model, path, r"\.pt: does not fit")
        load_weights(model, path, new_head=True)
        for name, tensor in model.state_dict().items():
            own = name.startswith("head.")
            assert torch.equal(tensor, before[name] if own else source.state_dict()[name]), name
        assert any(name.startswith("head.") for name in before)

    def test_precision_is_that_of_the_model(self, written, build):
        source, model = build().double(), build()
        load_weights(model, written(source))
        assert {tensor.dtype for tensor in model.state_dict().values()} <= {torch.float32, torch.int64}


def test_new_head_with_weaver_weights(tmp_path):
    net = reference_weaver.particle_net(13, 10)
    torch.save(net.state_dict(), tmp_path / "ParticleNet_kinpid.pt")
    model = ParticleNet("kinpid", 2)
    load_weights(model, tmp_path / "ParticleNet_kinpid.pt", new_head=True)
    assert torch.equal(model.convs[2].norms[1].bias, net.mod.edge_convs[2].bns[1].bias)
    assert model.head[3].out_features == 2


class TestNamesOfEarlierVersions:
    """The pair inputs of models with a gate were called `gated_pairs`."""

    @pytest.fixture(params=[GatedIAFormer, CascadedIAFormer])
    def net(self, request):
        return request.param(**SMALL)

    @staticmethod
    def former(model, prefix=""):
        state = {prefix + name.replace("pair_inputs.", "gated_pairs."): value for name, value in weights(model).items()}
        assert f"{prefix}gated_pairs.gate.lin.weight" in state
        return state

    def test_load_from_files(self, net, tmp_path):
        torch.save(self.former(net), tmp_path / "model.pt")
        model = type(net)(**SMALL)
        load_weights(model, tmp_path)
        assert all(torch.equal(tensor, net.state_dict()[name]) for name, tensor in model.state_dict().items())

    def test_load_into_a_module_that_holds_the_model(self, net):
        """A module that holds the model, as in Lightning or with averaged weights."""
        state = self.former(net, "tagger.model.")
        names = list(state)
        holder = torch.nn.ModuleDict({"tagger": torch.nn.ModuleDict({"model": type(net)(**SMALL)})})
        holder.load_state_dict(state)
        found = holder["tagger"]["model"].state_dict()
        assert all(torch.equal(tensor, net.state_dict()[name]) for name, tensor in found.items())
        assert list(state) == names  # the argument is unchanged

    def test_are_distinguished_from_unknown_names(self, net):
        state = self.former(net) | {"gated_pairs.gate.extra": torch.ones(1)}
        with pytest.raises(RuntimeError, match=r"pair_inputs\.gate\.extra"):
            type(net)(**SMALL).load_state_dict(state)


class TestDifferences:
    def test_all_differences_are_listed(self, tmp_path):
        state = iaformer(num_classes=5).state_dict()
        del state["blocks.1.conv.theta"]
        state["blocks.0.norm_in.bias"] = torch.zeros(9)
        state["extra"] = torch.tensor(1.0)
        state["head.bias"] = torch.zeros(2, dtype=torch.int64)
        torch.save(state, tmp_path / "model.pt")
        text = refused(iaformer(), tmp_path / "model.pt", "does not fit IAFormer, 5 differences:")
        assert "missing: blocks.1.conv.theta 1\n" in text
        assert "too many: extra scalar\n" in text
        assert "shape: blocks.0.norm_in.bias is 9, expected 6\n" in text
        assert "shape: head.weight is 5x6, expected 2x6\n" in text
        assert "type: head.bias is torch.int64, expected torch.float32\n" in text
        assert "new_head" in text

    def test_of_another_model_of_ours(self, tmp_path):
        torch.save(particle_transformer().state_dict(), tmp_path / "model.pt")
        text = refused(iaformer(), tmp_path, "differences", new_head=True)
        assert "missing: pair_encoder.0.weight" not in text  # it exists with another shape
        assert "new_head" not in text

    def test_of_features(self, written):
        path = written(particle_net(node_features="kinpid"))
        text = refused(particle_net(), path, "does not fit ParticleNet")
        assert "norm.weight is 13, expected 7" in text or "bn_fts.weight is 13, expected 7" in text

    def test_of_weaver_and_other_model(self, tmp_path):
        save_weaver(particle_net(), tmp_path / "net.pt")
        refused(iaformer(), tmp_path / "net.pt", "holds weaver's ParticleNet, but the model is IAFormer")
        refused(particle_transformer(), tmp_path / "net.pt", "but the model is ParticleTransformer")


@dataclass
class Harmful:
    """Code that runs when unpickled."""

    command: str

    def __reduce__(self):
        return os.system, (self.command,)


class TestFiles:
    @pytest.fixture
    def path(self, tmp_path):
        torch.save(iaformer().state_dict(), tmp_path / "model.pt")
        return tmp_path / "model.pt"

    def test_missing(self, tmp_path):
        refused(iaformer(), tmp_path / "no.pt", "no such file; give the file of a model's weights")
        refused(iaformer(), tmp_path, r"model\.pt: no such file")
        with pytest.raises(CheckpointError, match="; give the file of a model's weights"):
            load_weaver(tmp_path)

    def test_truncated(self, path):
        content = path.read_bytes()
        for size in (0, 1, 2, 50, 1000, len(content) // 2, len(content) - 1):
            path.write_bytes(content[:size])
            refused(iaformer(), path, "is damaged|was not opened")

    def test_flipped_bit_in_any_tensor(self, path):
        content = path.read_bytes()
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if "/data/" in entry.filename]
        assert len(entries) == len(iaformer().state_dict())
        for entry in entries:
            # Behind the local header: 30 bytes, the name and padding, of which the lengths stand in the header.
            name, extra = (
                int.from_bytes(content[entry.header_offset + k : entry.header_offset + k + 2], "little")
                for k in (26, 28)
            )
            damaged = bytearray(content)
            damaged[entry.header_offset + 30 + name + extra] ^= 1
            path.write_bytes(damaged)
            refused(iaformer(), path, "is damaged")

    def test_something_else(self, path):
        path.write_text("hello world")
        refused(iaformer(), path, "not a file of torch.save|was not opened")

    def test_code_is_not_executed(self, path):
        torch.save({"a": Harmful(f"touch {path.parent / 'ran'}")}, path)
        refused(iaformer(), path, "holds more than tensors.*was not opened")
        assert [file.name for file in path.parent.iterdir()] == ["model.pt"]

    @pytest.mark.parametrize("content", ["optimizer", "whole model", "list", "number", "nothing"])
    def test_other_contents(self, path, content):
        model = iaformer()
        optimizer = torch.optim.AdamW(model.parameters())
        model(random_jets([3])).sum().backward()
        optimizer.step()
        values = {
            "optimizer": (optimizer.state_dict(), "holds state, param_groups, expected tensors by name"),
            "whole model": (model, "holds more than tensors"),
            "list": (list(model.state_dict().values()), "holds list, expected tensors by name"),
            "number": ({"epoch": 3, "state_dict": model.state_dict()}, "holds epoch, state_dict, expected tensors"),
            "nothing": ({}, "does not fit IAFormer"),
        }
        torch.save(values[content][0], path)
        refused(iaformer(), path, values[content][1])
