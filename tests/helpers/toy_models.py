"""Every model that a configuration can name, with sizes for short trainings."""

import json

from toy_runs import settings

NODES = {"width": 10, "blocks": 1, "heads": 5, "particle_hidden": [11]}
PAIRS = {"pair_hidden": [7], "pair_width": 3}
TOYS = {
    "iaformer": ("invariant", NODES | PAIRS),
    "gated_iaformer": ("invariant", NODES | PAIRS | {"gate_hidden": 5, "gate_fraction": 0.3}),
    "cascaded_iaformer": ("invariant", NODES | PAIRS | {"gate_hidden": 5, "gate_fraction": 0.3}),
    "plain_transformer": (None, NODES),
    "interaction_transformer": ("invariant", NODES | PAIRS),
    "pair_transformer": ("invariant", NODES | PAIRS),
    "learned_pair_iaformer": (None, NODES | PAIRS),
    "particle_transformer": ("part", NODES | {"class_blocks": 1, "pair_hidden": [7], "dropout": 0.1}),
    "particlenet": (None, {"channels": [[7, 5], [3]], "neighbors": 4, "head_hidden": 11, "dropout": 0.1}),
}


def toy(name, store, output, *more):
    pairs, sizes = TOYS[name]
    model = f"model={json.dumps({'name': name} | sizes)}"
    return settings(store, output, model, f"data.pair_features={json.dumps(pairs)}", *more)
