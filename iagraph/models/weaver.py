"""Reads and writes checkpoints of weaver-core (https://github.com/hqucms/weaver-core), the reference implementation of
the Particle Transformer and ParticleNet, without weaver.

Such a file (``ParT_kin.pt``, ``ParticleNet_full.pt``, ...) holds tensors by name. It contains no names or order of
classes, no definition or scaling of the inputs, and no settings without weights: ParticleNet's number of neighbours,
and dropout. Sizes follow from the shapes, and the features from their number: 7 are ``kin``,
13 ``kinpid``, 17 ``full``, as in the official configurations of JetClass. Their scaling is fixed in our models.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from iagraph.files import user_path
from iagraph.models.particle_net import ParticleNet
from iagraph.models.particle_transformer import ParticleTransformer
from iagraph.models.state_dicts import CheckpointError, read_state_dict, refuse_differences, write_state_dict

FEATURES = {7: "kin", 13: "kinpid", 17: "full"}
"""Node feature sets of the official checkpoints by their number of features."""

PREFIX = "mod."
"""The official networks are wrapped in a module of this name."""

# Names, weaver's and ours: "#" stands for a number, "*" for the name of a tensor. The projections of queries, keys and
# values are one matrix in weaver, split here before names are compared.
_BLOCK = {
    "pre_attn_norm.*": "norm_in.*",
    "attn.in_proj.query.*": "conv.lin_query.*",
    "attn.in_proj.key.*": "conv.lin_key.*",
    "attn.in_proj.value.*": "conv.lin_value.*",
    "attn.out_proj.*": "conv.lin_out.*",
    "c_attn": "head_scale",
    "post_attn_norm.*": "norm_out.*",
    "pre_fc_norm.*": "feed_forward.0.*",
    "fc1.*": "feed_forward.1.*",
    "post_fc_norm.*": "feed_forward.4.*",
    "fc2.*": "feed_forward.5.*",
    "w_resid": "residual_scale",
}
PARTICLE_TRANSFORMER = {
    "embed.input_bn.*": "particle_norm.*",
    "embed.embed.#.*": "particle_encoder.#.*",
    "pair_embed.embed.#.*": "pair_encoder.#.*",
    **{f"blocks.#.{theirs}": f"blocks.#.{ours}" for theirs, ours in _BLOCK.items()},
    **{f"cls_blocks.#.{theirs}": f"class_blocks.#.{ours}" for theirs, ours in _BLOCK.items()},
    "cls_token": "class_token",
    "norm.*": "norm.*",
    "fc.0.*": "head.*",
}
PARTICLE_NET = {
    "bn_fts.*": "particle_norm.*",
    "edge_convs.#.convs.#.*": "convs.#.linears.#.*",
    "edge_convs.#.bns.#.*": "convs.#.norms.#.*",
    "edge_convs.#.sc.*": "convs.#.shortcut.0.*",
    "edge_convs.#.sc_bn.*": "convs.#.shortcut.1.*",
    "fc.0.0.*": "head.0.*",
    "fc.1.*": "head.3.*",
}


def load_weaver(path: str | Path) -> ParticleTransformer | ParticleNet:
    """The model in a checkpoint of weaver-core, in evaluation mode, on the CPU and in the precision of the file.

    ParticleNet gets 16 neighbours and both models a dropout of 0.1, as published: the file does not hold them. Give the
    model jets with the features it was trained on; the file does not name its classes (in official files: QCD, Hbb,
    Hcc, Hgg, H4q, Hqql, Zqq, Wqq, Tbqq, Tbl).

    Args:
        path: a state dict of weaver's ``ParticleTransformer`` (its first version) or ``ParticleNet`` (without fusion
            block), as written by the official networks.

    Raises:
        CheckpointError: the file cannot be read, or holds another architecture; the message lists the differences.
    """
    path = user_path(path)
    state = read_state_dict(path)
    kind = architecture(state)
    if kind is None:
        names = sorted({name.removeprefix(PREFIX).partition(".")[0] for name in state})
        raise CheckpointError(
            f"{path}: is no ParticleTransformer or ParticleNet of weaver, its modules are {', '.join(names[:12])}; "
            "give an official checkpoint, or read weights of our own with load_weights"
        )
    state = current_names(state)
    try:
        model = kind(**_settings(state, kind))
    except ValueError as error:
        raise CheckpointError(f"{path}: weaver's {kind.__name__} of these shapes cannot be made: {error}") from error
    advice = "give a checkpoint of ParticleTransformer in its first version, or of ParticleNet without fusion block"
    refuse_differences(path, f"weaver's {kind.__name__}", to_weaver(model), state, advice)
    model.to(next(tensor.dtype for tensor in state.values() if tensor.is_floating_point()))
    from_weaver(model, state)
    return model.eval()


def save_weaver(model: ParticleTransformer | ParticleNet, path: str | Path) -> None:
    """Writes a checkpoint that weaver's official networks load strictly. An older file is replaced, or unchanged after
    an error.

    Give weaver all sizes other than the published ones, above all ``neighbors``, which does not follow from the file.

    Args:
        model: one with node features ``kin``, ``kinpid`` or ``full`` and, for a Particle Transformer, pair features
            ``part``, as in weaver.
        path: the file; its folder must exist.

    Raises:
        CheckpointError: weaver has no such model, or the file cannot be written.
    """
    path = user_path(path)
    if not isinstance(model, ParticleTransformer | ParticleNet):
        raise CheckpointError(
            f"{path}: weaver has no {type(model).__name__}; give a ParticleTransformer or a ParticleNet"
        )
    features = [("node features", model.node_features, tuple(FEATURES.values()))]
    if isinstance(model, ParticleTransformer):
        features.append(("pair features", str(model.pair_features), ("part",)))
    for what, found, known in features:
        if found not in known:
            raise CheckpointError(f"{path}: weaver has no {what} '{found}'; train a model with {', '.join(known)}")
    write_state_dict(path, {PREFIX + name: tensor for name, tensor in to_weaver(model).items()})


def architecture(state: dict[str, Tensor]) -> type[ParticleTransformer] | type[ParticleNet] | None:
    """The weaver model that these tensors belong to; None if neither."""
    names = [name.removeprefix(PREFIX) for name in state]
    if any(name.startswith("edge_convs.") for name in names):
        return ParticleNet
    if any(name.startswith(("cls_token", "cls_blocks.", "pair_embed.")) for name in names):
        return ParticleTransformer
    return None


def current_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weaver's tensors under weaver's current names, without prefix; batch counts, absent in older files, are added."""
    state = {name.removeprefix(PREFIX): tensor for name, tensor in state.items()}
    state = {re.sub(r"\.in_proj_(weight|bias)$", r".in_proj.\1", name): tensor for name, tensor in state.items()}
    counts = {re.sub("running_mean$", "num_batches_tracked", name) for name in state if name.endswith("running_mean")}
    return dict.fromkeys(counts, torch.tensor(0)) | state


def to_weaver(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of a model under weaver's names and in its shapes, without the constants that scale the inputs."""
    table = {ours: theirs for theirs, ours in _table(model).items()}
    state = {}
    for name, tensor in model.state_dict().items():
        if not name.startswith("scale_particles."):
            theirs = _translate(name, table)
            state[theirs] = tensor[(..., *[None] * _kernel_axes(theirs, tensor))]
    for name in [name for name in state if ".in_proj.query." in name]:
        thirds = [state.pop(name.replace(".query.", f".{part}.")) for part in ("query", "key", "value")]
        state[name.replace(".query.", ".")] = torch.cat(thirds)
    if "cls_token" in state:
        state["cls_token"] = state["cls_token"][None, None]
    return state


def from_weaver(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Copies weaver's tensors, with the names of :func:`current_names` and fitting shapes; the model's others stay."""
    table, own = _table(model), model.state_dict()
    for name, tensor in state.items():
        parts = {name: tensor}
        if ".in_proj." in name:
            thirds = zip(("query", "key", "value"), tensor.chunk(3), strict=True)
            parts = {name.replace(".in_proj.", f".in_proj.{part}."): third for part, third in thirds}
        for theirs, part in parts.items():
            ours = _translate(theirs, table)
            own[ours] = part.reshape(own[ours].shape)
    model.load_state_dict(own)


def _table(model: nn.Module) -> dict[str, str]:
    return PARTICLE_TRANSFORMER if isinstance(model, ParticleTransformer) else PARTICLE_NET


def _translate(name: str, table: dict[str, str]) -> str:
    """Translates a name by a table; placeholders have the same order on both sides."""
    for source, target in table.items():
        if match := re.fullmatch(_pattern(source), name):
            for part in match.groups():
                target = re.sub(r"[#*]", part, target, count=1)
            return target
    raise KeyError(name)


def _pattern(template: str) -> str:
    return re.escape(template).replace(r"\#", r"(\d+)").replace(r"\*", r"(\w+)")


def _kernel_axes(theirs: str, tensor: Tensor) -> int:
    """Number of trailing axes of length 1 of weaver's tensor: its linear maps are convolutions of width 1."""
    if re.fullmatch(_pattern("edge_convs.#.convs.#.weight"), theirs):
        return 2
    return int(theirs.endswith(".sc.weight") or (theirs.startswith("pair_embed.") and tensor.dim() == 2))


def _settings(state: dict[str, Tensor], kind: type[nn.Module]) -> dict[str, Any]:
    """The arguments of a model with these shapes; those left out keep the published defaults.

    Raises:
        ValueError: no official feature set has this number of features.
    """

    def size(name: str) -> int:
        return state[name].size(0) if name in state and state[name].dim() else 0

    def numbers(template: str) -> list[int]:
        """The numbers in place of the first placeholder, ascending."""
        matches = (re.fullmatch(_pattern(template), name) for name in state)
        return sorted({int(match[1]) for match in matches if match})

    def widths(template: str) -> tuple[int, ...]:
        """Output sizes of the linear maps of these names; norms share the names but have no second axis."""
        names = [template.replace("#", str(number)) for number in numbers(template)]
        return tuple(size(name) for name in names if state[name].dim() > 1)

    inputs = size("bn_fts.weight") or size("embed.input_bn.weight")
    if inputs and inputs not in FEATURES:
        known = ", ".join(f"{number} ({name})" for number, name in FEATURES.items())
        raise ValueError(f"it takes {inputs} features, known are {known}; give weights for one of these sets")
    settings: dict[str, Any] = {"node_features": FEATURES.get(inputs)}
    if kind is ParticleNet:
        convs = numbers("edge_convs.#.convs.0.weight")
        channels = tuple(widths(f"edge_convs.{conv}.convs.#.weight") for conv in convs)
        settings["channels"] = channels if all(channels) else None
        settings |= {"head_hidden": size("fc.0.0.weight"), "num_classes": size("fc.1.weight")}
    else:
        settings |= {
            "num_classes": size("fc.0.weight"),
            "width": size("norm.weight") or size("blocks.0.pre_attn_norm.weight"),
            "heads": size("blocks.0.c_attn"),
            "blocks": len(numbers("blocks.#.fc1.weight")),
            "class_blocks": len(numbers("cls_blocks.#.fc1.weight")),
            "particle_hidden": widths("embed.embed.#.weight")[:-1],
            "pair_hidden": widths("pair_embed.embed.#.weight")[:-1],
        }
    return {name: value for name, value in settings.items() if value}
