"""An independent IAFormer from its equations: NumPy, one jet, one head and one pair at a time.

It shares no code with the package. Pair features come from Cartesian four-vectors in extended precision.
"""

import math

import numpy as np

LOG_FLOOR = 1e-8
CLIP = 5.0


def log(x):
    return np.log(np.maximum(x, LOG_FLOOR))


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf, otypes=[np.float64])(x / math.sqrt(2)))


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def layer_norm(x, weights, name):
    centred = x - x.mean(-1, keepdims=True)
    return (
        centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * weights[f"{name}.weight"]
        + weights[f"{name}.bias"]
    )


def linear(x, weights, name):
    return x @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", 0.0)


def cartesian(pt, y, phi, mass):
    pt, y, phi, mass = (np.longdouble(v) for v in (pt, y, phi, mass))
    mt = np.sqrt(pt**2 + mass**2)
    return np.array([pt * np.cos(phi), pt * np.sin(phi), mt * np.sinh(y), mt * np.cosh(y)])


def wrap(phi):
    return (phi + math.pi) % (2 * math.pi) - math.pi


# Charge, charged hadron, neutral hadron, photon, electron, muon; antiparticles have the opposite charge.
SPECIES = {
    211: (1, 1, 0, 0, 0, 0),
    321: (1, 1, 0, 0, 0, 0),
    2212: (1, 1, 0, 0, 0, 0),
    130: (0, 0, 1, 0, 0, 0),
    2112: (0, 0, 1, 0, 0, 0),
    22: (0, 0, 0, 1, 0, 0),
    11: (-1, 0, 0, 0, 1, 0),
    13: (-1, 0, 0, 0, 0, 1),
}


def node_row(p, jet, species):
    """Features of a particle (pt, y, phi, mass, pid) in a jet with four-vector ``jet``: 7, or 13 with its species."""
    vector = cartesian(*p[:4])
    jet_pt, jet_y = np.hypot(jet[0], jet[1]), 0.5 * np.log((jet[3] + jet[2]) / (jet[3] - jet[2]))
    delta_y, delta_phi = p[1] - jet_y, wrap(p[2] - np.arctan2(jet[1], jet[0]))
    row = [log(p[0]), log(vector[3]), log(p[0] / jet_pt), log(vector[3] / jet[3]), np.hypot(delta_y, delta_phi)]
    if species:
        charge, *flags = SPECIES[abs(int(p[4]))]
        row += [charge * np.sign(p[4]), *flags]
    return [*row, delta_y * np.sign(jet_y), delta_phi]


KINEMATIC_SCALING = [(1.7, 1 / 0.7), (2.0, 1 / 0.7), (-4.7, 1 / 0.7), (-4.7, 1 / 0.7), (0.2, 0.25)]
DIRECTION_SCALING = [(0.0, 0.2), (0.0, 0.2)]


def pair_row(p, q, jet, is_self, energy_share):
    """Features of two particles: 5 invariant ones, optionally the energy fraction, and the flag of a self-pair."""
    delta = np.hypot(p[1] - q[1], wrap(p[2] - q[2]))
    softer, total = min(p[0], q[0]), p[0] + q[0]
    vector = cartesian(*p[:4]) + cartesian(*q[:4])
    mass2 = vector[3] ** 2 - vector[0] ** 2 - vector[1] ** 2 - vector[2] ** 2
    row = [log(delta), log(softer * delta), log(softer / total), log(mass2), log(total / np.hypot(jet[0], jet[1]))]
    if energy_share:
        row.append(log(vector[3] / jet[3]))
    return [*row, float(is_self)]


PAIR_SCALING = [(-1.9, 1.0), (-1.6, 1.25), (-2.0, 1.2), (-1.4, 2.1), (-3.9, 1.2)]
ENERGY_SHARE_SCALING = [(-3.9, 1.2)]
UNSCALED = [(0.0, 1.0)]


def scale(row, scaling):
    return [np.clip((x - c) / w, -CLIP, CLIP) for x, (c, w) in zip(row, scaling, strict=True)]


def mlp(x, weights, name):
    layer = 0
    while f"{name}.{layer}.weight" in weights and weights[f"{name}.{layer}.weight"].ndim == 2:
        x = gelu(linear(x, weights, f"{name}.{layer}"))
        layer += 2
    return x, f"{name}.{layer}"


def logits_of_jet(particles, weights, blocks, heads, species, energy_share):
    """Logits of one jet.

    particles: list of (pt, y, phi, mass, pid); weights: arrays by name; blocks and heads: their numbers; species and
    energy_share: whether these features are in use.
    """
    n = len(particles)
    jet = sum(cartesian(*p[:4]) for p in particles)
    node_scaling = KINEMATIC_SCALING + UNSCALED * (6 * species) + DIRECTION_SCALING
    pair_scaling = PAIR_SCALING + ENERGY_SHARE_SCALING * energy_share + UNSCALED
    x = np.array([scale(node_row(p, jet, species), node_scaling) for p in particles], dtype=np.float64)
    x, norm = mlp(x, weights, "particle_encoder")
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + np.finfo(np.float64).eps) * weights[f"{norm}.weight"]

    pairs = np.empty((n, n), dtype=object)
    for i in range(n):
        for j in range(n):
            row = scale(pair_row(particles[i], particles[j], jet, i == j, energy_share), pair_scaling)
            pairs[i, j], _ = mlp(np.array(row, dtype=np.float64), weights, "pair_encoder")

    for b in range(blocks):
        name = f"blocks.{b}"
        values = linear(layer_norm(x, weights, f"{name}.norm_in"), weights, f"{name}.conv.lin_value")
        beta = 1 / (1 + np.exp(-weights[f"{name}.conv.theta"][0]))
        width = values.shape[1] // heads
        out = np.zeros_like(values)
        for h in range(heads):
            for i in range(n):
                scores = np.array([linear(pairs[i, j], weights, f"{name}.conv.lin_score") for j in range(n)])
                alpha = softmax(scores[:, h]) - beta * softmax(scores[:, heads + h])
                out[i, h * width : (h + 1) * width] = alpha @ values[:, h * width : (h + 1) * width]
        x = x + layer_norm(linear(out, weights, f"{name}.conv.lin_out"), weights, f"{name}.norm_out")
        hidden = gelu(linear(layer_norm(x, weights, f"{name}.feed_forward.0"), weights, f"{name}.feed_forward.1"))
        x = x + linear(layer_norm(hidden, weights, f"{name}.feed_forward.3"), weights, f"{name}.feed_forward.4")
    return linear(x.mean(0), weights, "head")
