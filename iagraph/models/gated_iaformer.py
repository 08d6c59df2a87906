"""IAFormer behind a gate: only the most promising pairs of a jet are encoded and attended to."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from iagraph.graph import Graph
from iagraph.jets import JetBatch
from iagraph.kinematics import PAIR_FEATURES
from iagraph.models.attention_tagger import FixedPairs, Pairs
from iagraph.models.iaformer import IAFormer
from iagraph.models.state_dicts import with_current_names
from iagraph.nn import Standardize
from iagraph.nn.pair_gate import FixedGate, Gate, PairGate
from iagraph.nn.pruning import EdgeBudget

CONTROLS = {"largest_kt": "log_kt", "random": None}
"""Gates that do not learn, by name: the feature of which they keep the largest values; None for random pairs."""

LIST_BELOW = 0.5
"""Fraction of pairs below which a list of edges is faster, on a CPU, than dense blocks with all pairs. With all pairs,
lists take 1.5 times as long as blocks in training, and three times the memory.
"""


class GatedPairs(FixedPairs):
    """Pair features and their gate, which starts as the logarithm of kT, scaled as all features are.

    The pairs with the largest kT are the best choice known before training: of all simple choices, this one costs a
    trained IAFormer the least performance. Self-pairs, which are always kept, start with a gate of zero.

    Args:
        name: name of the pair feature set, a key of :data:`iagraph.kinematics.PAIR_FEATURES`.
        hidden: hidden width of the gate.
        fraction: fraction of a jet's pairs that the gate keeps, in (0, 1].
        control: a key of :data:`CONTROLS` for a gate that does not learn; None for one that does.

    Raises:
        ValueError: an unknown feature set or control, or a fraction out of range.
    """

    def __init__(self, name: str, hidden: int, fraction: float, control: str | None = None) -> None:
        super().__init__(name)
        budget = EdgeBudget(fraction=fraction)
        if control is not None:
            if control not in CONTROLS:
                raise ValueError(f"gate_control '{control}': should be one of {', '.join(CONTROLS)}, or None")
            feature = CONTROLS[control]
            self.gate: Gate = FixedGate(None if feature is None else PAIR_FEATURES[name].index(feature), budget)
        else:
            self.gate = PairGate(self.channels, hidden, budget)
            start = torch.zeros(self.channels)
            start[PAIR_FEATURES[name].index("log_kt")] = 1.0
            start[-1] = Standardize.CLIP  # self-pairs, whose ln kT is clipped: their gate starts at 0
            self.gate.start_with(start)

    def forward(self, x: Tensor, graph: Graph, jets: JetBatch) -> Tensor:
        """See :meth:`FixedPairs.forward`; in the precision of the model instead of that of ``x``, since
        rounding to 16 bits makes many pairs equal.
        """
        return super().forward(self.scale.center, graph, jets)


class GatedIAFormer(IAFormer):
    r"""IAFormer (arXiv 2505.03258) on the pairs that a gate keeps.

    The gate (:class:`~iagraph.nn.PairGate`) looks at the raw features of all unordered pairs of a jet and keeps the
    best. The encoder and attention see only these. The gate :math:`g` enters both softmax maps,

    .. math::
        \alpha_{ij} = \operatorname{softmax}_j(\mathbf{w}_1 \cdot \mathbf{e}_{ij} + \ln \sigma(g_{ij}))
                      - \beta \operatorname{softmax}_j(\mathbf{w}_2 \cdot \mathbf{e}_{ij} + \ln \sigma(g_{ij})),

    so that it learns how much kept edges are worth. Self-edges are always kept.

    Args:
        sizes: passed to :class:`~iagraph.models.IAFormer`, as are ``options``.
        gate_hidden: hidden width of the gate.
        gate_fraction: fraction of a jet's pairs that the gate keeps, in (0, 1]; 1 keeps all.
        gate_control: a key of :data:`CONTROLS` for a gate that keeps pairs by one feature or at random, learns nothing
            and has no :math:`g`; None for one that learns.
        options: see ``sizes``.

    Raises:
        ValueError: an unknown feature set or control, no block, a fraction out of range, or ``width`` is not a multiple
            of ``heads``.
    """

    def __init__(
        self,
        *sizes: Any,
        gate_hidden: int = 16,
        gate_fraction: float = 0.2,
        gate_control: str | None = None,
        **options: Any,
    ) -> None:
        self.gate_arguments = (gate_hidden, gate_fraction, gate_control)  # for init_pairs, which the base class calls
        super().__init__(*sizes, **options)

    def init_pairs(self) -> nn.Module:
        """Pair features with a gate."""
        return GatedPairs(self.pair_features, *self.gate_arguments)

    def needs_edges(self) -> bool:
        """Whether a list of edges is needed, or faster because the gate keeps few pairs."""
        return self.pair_inputs.gate.current_budget.fraction < LIST_BELOW or super().needs_edges()

    def look_at_pairs(self, x: Tensor, graph: Graph, jets: JetBatch) -> Pairs:
        """The graph with the pairs that the gate keeps; see :meth:`AttentionTagger.look_at_pairs`."""
        return self.pair_inputs.gate(self.pair_inputs(x, graph, jets), graph)

    @property
    def drops_edges(self) -> bool:
        """True: its gate drops edges."""
        return True

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *arguments: Any) -> None:
        super()._load_from_state_dict(with_current_names(state_dict, prefix), prefix, *arguments)
