"""Measurements of heads, pair features and depths; each function returns a part of the section of the study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from iagraph.estimates import Array, Truth, recovery
from iagraph.interpret.depths import Depth, depths
from iagraph.interpret.heads import CLEAN, DONOR, KINDS, keep_heads, patch
from iagraph.interpret.interventions import Head, heads, sites
from iagraph.interpret.pair_features import VARIANTS, ablate_pair_features
from iagraph.interpret.particles import take
from iagraph.interpret.probes import class_probe, regression_probes
from iagraph.jets import JetBatch
from iagraph.metrics import Estimate
from iagraph.observables import LABELS, observables
from iagraph.studies.mechanism.figures import by_depth, feature_bars, head_maps, heads_kept, observables_by_depth
from iagraph.studies.report import Section
from iagraph.studies.runs import OpenRun
from iagraph.tables import Table

KEPT = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""Numbers of heads to keep, if below the model's total number, which is added."""

RANDOM_SEED = 1

DIFFERENCE = "change of mean logit difference"
AUC = "change of AUC"

CONTROLS = ("mass", "multiplicity")
"""Observables regressed out before probing others."""

SHAPES = ("mass", "multiplicity", "ptd", "width", "e2", "e3")
GROUPS = (
    {name: label for name, label in LABELS.items() if name in SHAPES},
    {name: label for name, label in LABELS.items() if name not in (*SHAPES, "tau1")},  # tau1 is the width over R0
)
"""Labels of observables, by row of panels."""


def heads_section(run: OpenRun, logits: Mapping[object, Array], truth: Truth) -> Section:
    """Tables and maps of the ablation of single heads and of layers, from the logits that ``ablate_heads`` returns."""
    clean, names = logits[CLEAN], [site.name for site in sites(run.model)]
    rows: list[dict[str, Any]] = []
    for head in [*heads(run.model), *range(len(names))]:
        layer, number = (names[head.site], str(head.head + 1)) if isinstance(head, Head) else (names[head], "all")
        row: dict[str, Any] = {"layer": layer, "head": number}
        for kind in KINDS:
            row[f"{AUC}, {kind}"] = truth.auc_change(logits[kind, head], clean)
            row[f"{DIFFERENCE}, {kind}"] = truth.mean_change(logits[kind, head], clean)
        rows.append(row)
    single, layers = rows[: -len(names)], rows[-len(names) :]
    figures = {}
    for key, what in (("auc", AUC), ("logits", DIFFERENCE)):
        panels = {f"{kind} ablation": head_array(run, [row[f"{what}, {kind}"] for row in single]) for kind in KINDS}
        caption = f"{what[0].upper()}{what[1:]} without a head: blue where the head helps. Layers from top to bottom."
        figures[f"heads_{key}"] = (head_maps(panels, names, what), caption)
    full = {"AUC": truth.auc(clean), "mean logit difference": truth.mean(truth.logit_difference(clean))}
    return Section(
        "",
        {
            "model": Table("The unchanged model.", [full]),
            "layers": Table("Ablation of all heads of a layer.", layers),
            "heads": Table("Ablation of single heads.", single),
        },
        figures,
        [],
        {"full": full},
    )


def head_array(run: OpenRun, values: Sequence[Estimate]) -> Array:
    """Values of all heads as an array [layers, heads], NaN where a layer has no such head."""
    places = sites(run.model)
    array = np.full((len(places), max(site.conv.heads for site in places)), np.nan)
    for head, value in zip(heads(run.model), values, strict=True):
        array[head.site, head.head] = value.value
    return array


def circuit_section(
    run: OpenRun,
    batches: Sequence[JetBatch],
    means: Sequence[torch.Tensor],
    single: Mapping[object, Array],
    truth: Truth,
) -> Section:
    """AUC with only the most important heads; ordered on one half of the jets, evaluated on the other to avoid bias.

    ``means`` are those of ``mean_sums``, ``single`` are the logits that ``ablate_heads`` returns.
    """
    everyone, first = heads(run.model), truth.half()
    ordering, held_out = truth[first], truth[~first]
    orders: dict[str, tuple[str, Sequence[Head]]] = {}
    for kind in KINDS:
        worth = [-ordering.mean_change(single[kind, head][first], single[CLEAN][first]).value for head in everyone]
        orders[f"{kind}, by importance"] = (kind, [everyone[place] for place in np.argsort(worth)[::-1]])
    shuffled = np.random.default_rng(RANDOM_SEED).permutation(len(everyone))
    orders["mean, by chance"] = ("mean", [everyone[place] for place in shuffled])
    numbers = [number for number in KEPT if number < len(everyone)] + [len(everyone)]
    places = torch.from_numpy(np.flatnonzero(~first)).to(run.device)
    everything = JetBatch.concatenate(batches)
    parts = [take(everything, some) for some in places.split(len(batches[0]))]
    logits = keep_heads(run.model, parts, means, orders, numbers)
    full = held_out.auc(logits[CLEAN])
    rows: list[dict[str, Any]] = []
    curves: dict[str, list[tuple[int, Estimate]]] = {name: [] for name in orders}
    names = [site.name for site in sites(run.model)]
    for name, (_, order) in orders.items():
        for number in numbers:
            change = held_out.auc_change(logits[name, number], logits[CLEAN])
            above, fraction = recovery(full, change)
            auc = held_out.auc(logits[name, number])
            last = order[number - 1] if number else None
            added = "-" if last is None else f"{names[last.site]}.{last.head + 1}"
            row = {"order": name, "heads kept": number, "last one (layer.head)": added, "AUC": auc}
            rows.append(row | {AUC: change, "(AUC' - 0.5) / (AUC - 0.5)": above, "AUC' / AUC": fraction})
            curves[name].append((number, Estimate(auc.value, change.error)))
    names_of = {
        name: [f"{names[head.site]}.{head.head + 1}" for head in order[:12]] for name, (_, order) in orders.items()
    }
    caption = (
        "AUC with only the most important heads, all others ablated; bars: error of the difference from the model."
    )
    table = Table(f"Only the first heads of an order, on {len(held_out.labels):,} jets not used for ordering.", rows)
    return Section("", {"circuit": table}, {"circuit": (heads_kept(curves, full), caption)}, [], {"order": names_of})


def patching_section(run: OpenRun, batches: Sequence[JetBatch], truth: Truth) -> Section:
    """Tables and figures of patching with the activations of donor jets."""
    logits = patch(run.model, batches)
    clean, donor = logits[CLEAN], logits[DONOR]
    names = [site.name for site in sites(run.model)]
    rows: list[dict[str, Any]] = []
    for head in heads(run.model):
        moved = truth.transfer(logits[head], clean, donor)
        rows.append({"layer": names[head.site], "head": head.head + 1, "share": moved})
    depth_names = [str(depth) for depth in range(len(run.model.blocks) + 1)]
    stream = {name: truth.transfer(logits[int(name)], clean, donor) for name in depth_names}
    panels = {"heads": head_array(run, [row["share"] for row in rows])}
    label = "fraction of the way to the donor's logits"
    caption = (
        "Activation patching of single heads: how far the activations of a jet of another class move the mean logit "
        "difference towards that jet's own. 0: not at all; 1: all the way."
    )
    stream_caption = "The same with the vectors of all particles, before the first block (0) and after each one."
    stream_rows: list[dict[str, Any]] = [{"blocks before": name, "share": value} for name, value in stream.items()]
    return Section(
        "",
        {
            "patched_stream": Table("Patching of the residual stream from a donor of another class.", stream_rows),
            "patched_heads": Table("Patching of single heads with the sums of a donor of another class.", rows),
        },
        {
            "patched_heads": (head_maps(panels, names, label), caption),
            "patched_stream": (
                by_depth({"residual stream": stream}, depth_names, label, ("donor", 1.0)),
                stream_caption,
            ),
        },
        [],
    )


def pair_features_section(run: OpenRun, batches: Sequence[JetBatch], clean: Array, truth: Truth) -> Section:
    """Tables and figures of the ablation of pair features, empty without them; ``clean``: logits before ablation."""
    ablated = ablate_pair_features(run.model, batches)
    if not ablated:
        return Section("", {}, {})
    rows: list[dict[str, Any]] = []
    figures = {}
    bars: dict[str, dict[str, dict[str, dict[str, Estimate]]]] = {}
    for (part, name, variant), logits in ablated.items():
        row: dict[str, Any] = {"read by": part, "feature": name, "variant": variant}
        row |= {AUC: truth.auc_change(logits, clean), DIFFERENCE: truth.mean_change(logits, clean)}
        rows.append(row)
        panels = bars.setdefault(part, {what: {each: {} for each in VARIANTS} for what in (AUC, DIFFERENCE)})
        for what in (AUC, DIFFERENCE):
            panels[what][variant][name] = row[what]
    for part, panels in bars.items():
        caption = f"Effect of replacing a pair feature ({part}) by a typical value, or shuffling it within jets."
        figures[f"pair_features_{part.replace(' ', '_')}"] = (feature_bars(panels), caption)
    return Section("", {"pair_features": Table("Ablation of single pair features.", rows)}, figures)


def depths_section(run: OpenRun, batches: Sequence[JetBatch], truth: Truth) -> Section:
    """Tables and figures of the logit lens and of linear probes by depth; the probes also for an untrained model."""
    found = depths(run.model, batches)
    control = depths(run.untrained(), batches)
    rows: list[dict[str, Any]] = []
    lens: dict[str, Estimate] = {}
    probe: dict[str, Estimate] = {}
    random: dict[str, Estimate] = {}
    for depth, same in zip(found, control, strict=True):
        row: dict[str, Any] = {"depth": depth.name, "AUC, lens": None, "mean logit difference, lens": None}
        if depth.lens is not None:
            lens[depth.name] = row["AUC, lens"] = truth.auc(depth.lens)
            row["mean logit difference, lens"] = truth.mean(truth.logit_difference(depth.lens))
        probe[depth.name] = row["AUC, probe"] = truth.auc(_oriented(class_probe(depth.vectors, truth.labels), truth))
        random[depth.name] = row["AUC, probe, untrained"] = truth.auc(
            _oriented(class_probe(same.vectors, truth.labels), truth)
        )
        rows.append(row)
    last = next(depth.lens for depth in found if depth.name == str(len(run.model.blocks)) and depth.lens is not None)
    names = [depth.name for depth in found]
    curves = {"logit lens": lens, "linear probe": probe, "linear probe, untrained model": random}
    figure = by_depth(curves, names, "AUC", ("model", truth.auc(last).value))
    caption = "AUC by depth: of the model's own read-out of the vectors, and of a linear probe of their mean."
    known = _observables(found, control, batches)
    tables = {"depths": Table("Logit lens and linear probes of the class by depth.", rows), **known.tables}
    return Section("", tables, {"depths": (figure, caption), **known.figures})


def _oriented(scores: Array, truth: Truth) -> Array:
    """Scores that grow towards the signal, as metrics expect; probes of two classes score the second class."""
    return -scores if scores.ndim == 1 and truth.signal == 0 else scores


def _observables(found: Sequence[Depth], untrained: Sequence[Depth], batches: Sequence[JetBatch]) -> Section:
    parts = [observables(jets) for jets in batches]
    values = {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}
    controls = {name: values[name] for name in CONTROLS}
    titles = {"none": "trained", **{name: f"trained, without {name}" for name in CONTROLS}}
    panels: dict[str, dict[str, dict[str, Estimate]]] = {title: {} for title in [*titles.values(), "untrained"]}
    rows: list[dict[str, Any]] = []
    for depth, same in zip(found, untrained, strict=True):
        probes = regression_probes(depth.vectors, values, controls)
        probes |= {
            (name, "untrained"): probe for (name, _), probe in regression_probes(same.vectors, values, {}).items()
        }
        for control, title in (titles | {"untrained": "untrained"}).items():
            row: dict[str, Any] = {"depth": depth.name, "probe": title}
            for name in values:
                row[name] = probes[name, control].r2 if (name, control) in probes else None
                if row[name] is not None and np.isfinite(row[name].value):
                    panels[title].setdefault(name, {})[depth.name] = row[name]
            rows.append(row)
    caption = (
        "Held-out R^2 of ridge regressions of observables on the mean vector of a jet, by depth; also with mass or "
        "multiplicity linearly regressed out, and for an untrained model."
    )
    figure = observables_by_depth(panels, [depth.name for depth in found], GROUPS)
    table = Table("Held-out R^2 of linear probes of observables by depth.", rows)
    return Section("", {"observables": table}, {"observables": (figure, caption)})
