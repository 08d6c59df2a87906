"""Recipe for generating jets: the contents of ``configs/generate_*.yaml``."""

import re
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from iagraph.yaml_config import Section


class Process(Section):
    """One class of jets: the ``pythia`` settings enable the hard process; ``partons`` are absolute PDG ids, of which at
    least one must occur among its outgoing partons.

    With ``decay``, a jet is kept only if it contains such a decay of a t, W, Z or H, for example ``t -> q l nu``: q is
    any quark, g a gluon, l an electron or muon; W and Z among the products are replaced with their own products. See
    ``contains_decay``.
    """

    name: str
    pythia: list[str]
    partons: list[int] = Field(min_length=1)
    decay: str | None = None

    @field_validator("decay")
    @classmethod
    def _known_particles(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch("[tWZH] ->( (q|g|l|nu)){2,}", value):
            raise ValueError("should be t, W, Z or H, an arrow and at least two of q, g, l and nu, as in 't -> q l nu'")
        return value


class JetSelection(Section):
    """Cuts on the hardest anti-kT jet of each event: a window in pt (GeV), and a maximum of abs(y) or of abs(eta)."""

    radius: float = Field(gt=0)
    pt_min: float = Field(gt=0)
    pt_max: float = Field(gt=0)
    rapidity_max: float | None = Field(default=None, gt=0)
    pseudorapidity_max: float | None = Field(default=None, gt=0)

    @field_validator("pt_max")
    @classmethod
    def _above_pt_min(cls, value: float, info: ValidationInfo) -> float:
        if value <= info.data.get("pt_min", 0):
            raise ValueError(f"should be above pt_min, {info.data['pt_min']}")
        return value

    @model_validator(mode="after")
    def _one_window(self) -> "JetSelection":
        if (self.rapidity_max is None) == (self.pseudorapidity_max is None):
            raise ValueError("should have exactly one of rapidity_max and pseudorapidity_max")
        return self


class Veto(Section):
    """Drops events early, to save time: those whose partons, once the shower has come down to a pT of ``scale``, have
    less than twice ``pt_min`` as the scalar sum of their pT (both in GeV).

    A jet's pT is balanced, so the sum of such an event is at least twice that pT, but for what is radiated below the
    scale, and for the detector. The further ``pt_min`` is below the window, the fewer jets are lost.
    """

    scale: float = Field(gt=0)
    pt_min: float = Field(gt=0)


class Splits(Section):
    """Relative sizes of the splits, in file order."""

    train: float = Field(gt=0)
    val: float = Field(ge=0)
    test: float = Field(ge=0)


class GenerateConfig(Section):
    """A recipe: classes in label order, common Pythia settings, the detector that turns particles into those that are
    clustered (:mod:`iagraph.data.detector`), and the jet selection, which a veto of other events can make quicker.
    """

    processes: list[Process] = Field(min_length=1)
    pythia: list[str]
    detector: Literal["atlas", "cms", "none"] = "none"
    jet: JetSelection
    veto: Veto | None = None
    splits: Splits
    seed: int = Field(ge=0)
    mantissa_bits: int = Field(ge=1, le=23)

    @model_validator(mode="after")
    def _veto_below_window(self) -> "GenerateConfig":
        if self.veto and self.veto.pt_min >= self.jet.pt_min:
            raise ValueError(f"veto.pt_min should be below jet.pt_min, {self.jet.pt_min}")
        return self
