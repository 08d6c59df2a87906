"""What the study of mechanisms says of depths: logit lens, and linear probes of the class and of observables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from iagraph.jets import JetBatch
from iagraph.metrics import Estimate
from iagraph.observables import LABELS, observables
from iagraph.studies.mechanism.depths import Depth, depths
from iagraph.studies.mechanism.effects import Array, Truth
from iagraph.studies.mechanism.figures import by_depth, observables_by_depth
from iagraph.studies.mechanism.probes import class_probe, regression_probes
from iagraph.studies.of_run import OpenRun
from iagraph.studies.sections import Section, Table
from iagraph.train.folder import build_model

CONTROLS = ("mass", "multiplicity")
"""What is taken out of observables before they are probed."""

UNTRAINED_SEED = 1

SHAPES = ("mass", "multiplicity", "ptd", "width", "e2", "e3")
GROUPS = (
    {name: label for name, label in LABELS.items() if name in SHAPES},
    {name: label for name, label in LABELS.items() if name not in (*SHAPES, "tau1")},  # tau1 is the width over R0
)
"""Observables that share a panel."""


def depths_section(run: OpenRun, batches: Sequence[JetBatch], truth: Truth) -> Section:
    """Tables and figures of the logit lens and of linear probes, with those of an untrained model beside them."""
    found = depths(run.model, batches)
    torch.manual_seed(UNTRAINED_SEED)
    untrained: Any = build_model(run.run.config, run.run.classes).to(run.device).eval()
    control = depths(untrained, batches)
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
    caption = "AUC by depth: of the model's own read-out on the vectors there, and of a linear probe of their mean."
    known = _observables(found, control, batches)
    tables = {"depths": Table("Logit lens and linear probes of the class by depth.", rows), **known.tables}
    return Section("", tables, {"depths": (figure, caption), **known.figures}, [], known.numbers)


def _oriented(scores: Array, truth: Truth) -> Array:
    """Scores of two classes grow with the likeness to the second; metrics want them to with that to the signal."""
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
        "Held-out R^2 of ridge regressions of observables on the mean vector of a jet, by depth; also with the part "
        "linear in mass or in multiplicity taken out, and of an untrained model."
    )
    figure = observables_by_depth(panels, [depth.name for depth in found], GROUPS)
    table = Table("Held-out R^2 of linear probes of observables by depth.", rows)
    return Section("", {"observables": table}, {"observables": (figure, caption)}, [])
