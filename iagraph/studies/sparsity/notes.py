"""What one must know to read the tables and figures of a study of sparsity, as sentences."""

from __future__ import annotations

from collections.abc import Sequence

from iagraph.studies.sparsity.run import RunAttention
from iagraph.studies.sparsity.zeroing import has_content, has_pairs

PUBLISHED = (
    "published for ParT (arXiv 2512.00210), not measured here: attention of models trained on JetClass and of those "
    "trained on quark/gluon jets is binary, of those trained on the top reference set it is not; JetClass: U changes "
    "the largest source of 3.6 % of the rows and of 85.4 % of the particles at least once, 0.88 % of the rows and "
    "42.1 % of the particles are not binary, correlation of the two 0.229; accuracy 0.861, with U = 0 in the trained "
    "model 0.405, trained anew without U 0.849"
)


def notes(runs: Sequence[RunAttention]) -> list[str]:
    """For all runs, and for each what there is not.

    Args:
        runs: what was measured.
    """
    found = [
        "a row is what one particle gives to all particles of its jet in one head of one layer; it is not binary if "
        "its largest weight is below 0.8 (arXiv 2512.00210). As in that paper the edge of a particle with itself is "
        "part of the row; in columns 'no self' it is not, and the other weights of the row are scaled to sum to one",
        "errors: jets are independent, their particles, heads and layers are not; of differences, those of the same "
        "jets judged twice. Runs differ by the chance of their training, too, which no error here holds",
        "entropy H in nats of the shares |weight| / sum of |weights| of a row; effective neighbours: e^H, of all: over "
        "the number of the row's edges",
        "distances and subjets: edges between different particles alone, sizes of weights, all heads together; "
        "each jet counts the same. Pairs: all edges that the layer has, which is what even attention would give",
    ]
    if any("ratio" in run.found.histograms for run in runs):
        found.append(
            "A: queries times keys over sqrt(d), U: scores from pairs, of the same edge; there is no padding. A "
            "softmax ignores what the scores of a row have in common, so that |A| / |U|, the published measure, says "
            "less than the spread of each within a row, which is our addition"
        )
        found.append(
            "U = 0, A = 0: in the trained model; a model trained without U is another run, to be named beside it"
        )
    if any("maps_differ" in run.found.layers for run in runs):
        found.append(
            "differential attention is signed and its rows sum to 1 - beta: non-binary, entropy and largest weights "
            "are those of |weight| over the sum of |weights|; it has no A, so flips are rows whose first map and "
            "beta times second map have different largest sources; 'second map flips': subtracting changes the "
            "largest. Where both maps are all on one source, but different ones, the largest share is 1 / (1 + beta), "
            "0.8 for beta = 0.25: whether such a row counts as binary hangs on beta, so look at each map, too"
        )
    for run in runs:
        found += [f"{run.name}: {text}" for text in _missing(run)]
    if all("split" in run.found.layers for run in runs):
        found.append(
            "subjets: exclusive kT, R = 0.8, of all particles of the jet, three for tops that decay to quarks and two "
            "for all other classes. Random weights: the same configuration, not trained; particles shuffled: the "
            "numbers of the subjets given to the particles of the jet by chance, which keeps their sizes"
        )
    else:
        found.append("subjets need FastJet: pip install 'iagraph[generate]', then start the command again")
    return [*found, PUBLISHED]


def _missing(run: RunAttention) -> list[str]:
    model, found = run.run.model, []
    if not has_content(model.convs()):
        found.append("its scores come from pairs alone, there is no A to compare them with")
    if not has_pairs(model):
        found.append("its scores come from queries and keys alone, there is no U that could change the largest source")
    leptons = run.found.layers.get("with leptons")
    if leptons is None:
        found.append("species are not known, so that leptons cannot be told apart")
    elif not leptons.any():
        found.append(f"there are no electrons or muons in its {run.run.jets:,} jets")
    return found
