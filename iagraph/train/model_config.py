"""The ``model`` section of a configuration: one class per network of the registry, discriminated by ``name``.

The classes are generated from the networks: keys are constructor arguments, with bounds and meaning from :data:`KEYS`.
Arguments with the default None or False are optional; all others are required.
"""

import inspect
import re
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, create_model, field_validator, model_validator

from iagraph.models.gated_iaformer import CONTROLS
from iagraph.models.registry import MODELS, arguments
from iagraph.nn.pruning import FORMER_NAMES, pruning_rule
from iagraph.yaml_config import Section

PositiveInt = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Widths = Annotated[list[PositiveInt], Field(min_length=1)]


class PruningConfig(Section):
    """Which edges a block keeps."""

    rule: Annotated[
        Literal["threshold", "top_k", "top_p", "edge_budget"],
        BeforeValidator(lambda name: FORMER_NAMES.get(name, name) if isinstance(name, str) else name),
    ] = Field(
        description="Edges to keep, by |attention|: above a threshold, the top k per particle, those that hold a "
        "fraction of it per particle, or the top fraction per jet."
    )
    strength: Annotated[float, Field(gt=0)] = Field(
        description="The threshold, k, the fraction p, or the fraction of a jet's edges to keep."
    )

    @model_validator(mode="after")
    def _strength_fits_the_rule(self) -> "PruningConfig":
        pruning_rule(self.rule, self.strength)
        return self


KEYS: dict[str, tuple[Any, str]] = {
    "width": (PositiveInt, "Features per particle; a multiple of `heads`."),
    "blocks": (PositiveInt, "Attention blocks."),
    "class_blocks": (PositiveInt, "Class attention blocks, after the others."),
    "heads": (PositiveInt, "Attention heads per block."),
    "particle_hidden": (list[PositiveInt], "Hidden widths of the particle encoder; an empty list makes it linear."),
    "pair_hidden": (
        list[PositiveInt],
        "Hidden widths of the pair encoder, which takes most of the cost; an empty list makes it linear.",
    ),
    "pair_width": (PositiveInt, "Features per pair, shared by all blocks."),
    "gate_hidden": (PositiveInt, "Hidden width of the gate, applied to all pairs."),
    "gate_fraction": (Fraction, "Fraction of a jet's pairs that the gate keeps."),
    "gate_control": (
        Literal[tuple(CONTROLS)] | None,
        "A gate that learns nothing, for comparison: keeps pairs by one feature or at random; null: learns.",
    ),
    "beta_per_head": (bool, "One subtraction strength per head instead of per block."),
    "pruning": (PruningConfig | None, "Which edges a block passes on to the next; null: all."),
    "channels": (
        Annotated[list[Widths], Field(min_length=1)],
        "Widths of the layers of each EdgeConv block; published: three layers each of 64, 128 and 256.",
    ),
    "neighbors": (PositiveInt, "Nearest neighbors per particle, recomputed in each block."),
    "head_hidden": (PositiveInt, "Hidden width of the classifier."),
    "dropout": (Dropout, "Fraction of activations that a training step sets to zero."),
}
"""Type and meaning of each key of a network."""


class ModelSection(Section):
    """Base class of the sections of all networks."""

    takes_pairs: ClassVar[bool]  # whether the network takes `data.pair_features`
    needs_pairs: ClassVar[bool]  # whether it requires them

    @property
    def drops_edges(self) -> bool:
        """Whether the network has a gate or a pruning rule to tighten."""
        return getattr(self, "gate_fraction", None) is not None or getattr(self, "pruning", None) is not None

    @field_validator("heads", check_fields=False)
    @classmethod
    def _heads_divide_width(cls, heads: int, info: ValidationInfo) -> int:
        if info.data.get("width", heads) % heads:  # absent if width is itself invalid, which is reported
            raise ValueError(f"should divide the width {info.data['width']}")
        return heads


def _section(name: str, model: type[Any]) -> type[ModelSection]:
    given = arguments(model)
    fields: dict[str, Any] = {"name": (Literal[name], ...)}
    for key in (key for key in given if key in KEYS):
        kind, meaning = KEYS[key]
        default = given[key].default
        fields[key] = (
            kind,
            Field(default=default if default is None or default is False else ..., description=meaning),
        )
    about = re.sub(r":\w+:`~?[\w.]*?(\w+)`", r"\1", (inspect.getdoc(model) or "").partition("\n\n")[0])
    title = f"{model.__name__}Config"
    section = create_model(title, __base__=ModelSection, __doc__=about, __module__=__name__, **fields)
    section.takes_pairs = "pair_features" in given
    section.needs_pairs = section.takes_pairs and "None" not in str(given["pair_features"].annotation)
    return section


SECTIONS = {name: _section(name, model) for name, model in MODELS.items()}
"""The section class of each network, by name."""

globals().update({section.__name__: section for section in SECTIONS.values()})  # where pickle looks for them

if TYPE_CHECKING:
    ModelConfig = Any
else:
    ModelConfig = Annotated[reduce(or_, SECTIONS.values()), Field(discriminator="name")]
