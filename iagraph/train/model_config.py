"""The section `model` of a configuration: one class per network, told apart by `name`."""

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from iagraph.nn.pruning import pruning_rule

PositiveInt = Annotated[int, Field(ge=1)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Widths = Annotated[list[PositiveInt], Field(min_length=1)]


class Section(BaseModel):
    """A section whose values are not converted and whose keys are all known."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)


class _Network(Section):
    takes_pairs: ClassVar[bool] = False  # does it take `data.pair_features`?
    needs_pairs: ClassVar[bool] = False  # can it not do without them?

    @property
    def drops_edges(self) -> bool:
        """Whether it has a gate or a rule that could tighten."""
        return getattr(self, "gate_fraction", None) is not None or getattr(self, "pruning", None) is not None

    name: str


class _Transformer(_Network):
    width: PositiveInt = Field(description="Features per particle; a multiple of `heads`.")
    blocks: PositiveInt = Field(description="Attention blocks.")
    heads: PositiveInt = Field(description="Attention heads per block.")
    particle_hidden: list[PositiveInt] = Field(
        description="Hidden widths of the particle encoder; an empty list makes it linear."
    )

    @field_validator("heads")
    @classmethod
    def _heads_divide_width(cls, heads: int, info: ValidationInfo) -> int:
        if info.data.get("width", heads) % heads:  # absent if width itself is at fault, which has its own message
            raise ValueError(f"should divide the width {info.data['width']}")
        return heads


class _PairTransformer(_Transformer):
    takes_pairs = needs_pairs = True

    pair_hidden: list[PositiveInt] = Field(
        description="Hidden widths of the pair encoder, most of the cost; an empty list makes it linear."
    )
    pair_width: PositiveInt = Field(description="Features per pair that all blocks share.")


class PruningConfig(Section):
    """Which edges of a block survive it."""

    rule: Literal["threshold", "top_k", "top_mass", "edge_budget"] = Field(
        description="By what |attention| edges survive: above a threshold, the strongest k of a particle, those that "
        "hold a share of a particle's, or the strongest of a jet."
    )
    strength: Annotated[float, Field(gt=0)] = Field(
        description="The threshold, k, the share, or the fraction of a jet's edges that survive."
    )

    @model_validator(mode="after")
    def _strength_fits_the_rule(self) -> "PruningConfig":
        pruning_rule(self.rule, self.strength)
        return self


class IAFormerConfig(_PairTransformer):
    """Differential attention from pair features alone (arXiv 2505.03258)."""

    name: Literal["iaformer"]
    beta_per_head: bool = Field(default=False, description="A subtraction strength per head, not one per block.")
    pruning: PruningConfig | None = Field(
        default=None, description="Which edges of a block are left to the next; null: all."
    )


class GatedIAFormerConfig(_PairTransformer):
    """IAFormer behind a gate, which lets the best of all pairs through to the pair encoder."""

    name: Literal["gated_iaformer"]
    gate_hidden: PositiveInt = Field(description="Hidden width of the gate, which sees all pairs.")
    gate_fraction: Annotated[float, Field(gt=0, le=1)] = Field(
        description="Fraction of a jet's pairs that the gate lets through."
    )


class CascadedIAFormerConfig(GatedIAFormerConfig):
    """The same with a pair encoder for each block, and with pruning from block to block."""

    name: Literal["cascaded_iaformer"]  # type: ignore[assignment]
    pruning: PruningConfig | None = Field(
        default=None, description="Which edges of a block are left to the next; null: all."
    )


class PlainTransformerConfig(_Transformer):
    """IAFormer's skeleton with attention from queries and keys alone."""

    name: Literal["plain_transformer"]


class InteractionTransformerConfig(_PairTransformer):
    """IAFormer's skeleton with attention from queries, keys and a bias of the pair features."""

    name: Literal["interaction_transformer"]


class PairTransformerConfig(_PairTransformer):
    """IAFormer's skeleton with attention from pair features alone, one softmax, nothing subtracted."""

    name: Literal["pair_transformer"]


class LearnedPairIAFormerConfig(_PairTransformer):
    """IAFormer whose pair vectors come from the vectors of the two particles, not from pair features."""

    takes_pairs = needs_pairs = False

    name: Literal["learned_pair_iaformer"]


class ParticleTransformerConfig(_Transformer):
    """Particle Transformer (arXiv 2202.03772); published: 128 wide, 8 + 2 blocks, 8 heads, dropout 0.1.

    With `data.pair_features` null it has no pair encoder, and `pair_hidden` counts for nothing.
    """

    takes_pairs = True

    name: Literal["particle_transformer"]
    class_blocks: PositiveInt = Field(description="Class attention blocks, after the others.")
    pair_hidden: Widths = Field(description="Hidden widths of the pair encoder, which gives a number per head.")
    dropout: Dropout = Field(description="Share of activations that a training step sets to zero.")


class ParticleNetConfig(_Network):
    """ParticleNet (arXiv 1902.08570); published: 16 neighbors, head of 256, dropout 0.1."""

    name: Literal["particlenet"]
    channels: Annotated[list[Widths], Field(min_length=1)] = Field(
        description="Widths of the layers of each EdgeConv block; published: three of 64, of 128 and of 256."
    )
    neighbors: PositiveInt = Field(description="Nearest neighbors that a particle hears, found anew in each block.")
    head_hidden: PositiveInt = Field(description="Hidden width of the classifier.")
    dropout: Dropout = Field(description="Share of activations that a training step sets to zero.")


ModelConfig = Annotated[
    IAFormerConfig
    | GatedIAFormerConfig
    | CascadedIAFormerConfig
    | PlainTransformerConfig
    | InteractionTransformerConfig
    | PairTransformerConfig
    | LearnedPairIAFormerConfig
    | ParticleTransformerConfig
    | ParticleNetConfig,
    Field(discriminator="name"),
]
