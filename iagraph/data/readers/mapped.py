"""Reader of ROOT trees and parquet tables with arbitrary branch names, which a map assigns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np

from iagraph.data.jets import Jets, StoreError, offsets_of
from iagraph.data.readers.base import Reader, reading, refuse
from iagraph.data.readers.cartesian import SPACELIKE, momentum_columns
from iagraph.data.readers.columns import ColumnPart, Table, check_columns, label_of_flags, particle_names, same_counts

try:
    from pydantic import Field, model_validator

    from iagraph.yaml_config import ConfigError, Section, load_model
except ImportError as error:
    raise ImportError(f"branch maps need {error.name}: pip install 'iagraph[data]'") from error

Name = Annotated[str, Field(min_length=1)]
CONVENTIONS = (
    {"px", "py", "pz", "energy"},
    {"pt", "eta", "phi", "mass"},
    {"pt", "eta", "phi", "energy"},
    {"pt", "eta", "phi"},
    {"pt", "rapidity", "phi", "mass"},
    {"pt", "rapidity", "phi"},
)


class Particles(Section):
    """Branches with one value per particle; of the first nine keys, those given must form one of ``CONVENTIONS``."""

    px: Name | None = Field(default=None, description="Momentum [GeV].")
    py: Name | None = Field(default=None, description="Momentum [GeV].")
    pz: Name | None = Field(default=None, description="Momentum [GeV].")
    energy: Name | None = Field(default=None, description="Energy [GeV].")
    pt: Name | None = Field(default=None, description="Transverse momentum [GeV].")
    eta: Name | None = Field(default=None, description="Pseudorapidity.")
    rapidity: Name | None = Field(default=None, description="Rapidity.")
    phi: Name | None = Field(default=None, description="Azimuth [rad].")
    mass: Name | None = Field(default=None, description="Mass [GeV]; without mass and energy, particles are massless.")
    massless: bool = Field(default=False, description="Whether energy is |p| up to rounding, so that the mass is 0.")
    pid: Name | None = Field(default=None, description="PDG id.")
    d0: Name | None = Field(default=None, description="Transverse impact parameter [mm].")
    d0_error: Name | None = Field(default=None, description="Its error [mm].")
    dz: Name | None = Field(default=None, description="Longitudinal impact parameter [mm].")
    dz_error: Name | None = Field(default=None, description="Its error [mm].")

    @property
    def kinematics(self) -> set[str]:
        """The given keys among those in ``CONVENTIONS``."""
        return {key for key in set.union(*CONVENTIONS) if getattr(self, key) is not None}

    @property
    def columns(self) -> dict[str, str]:
        """The branch for each key that is given."""
        return {key: value for key, value in self.model_dump(exclude_none=True).items() if key != "massless"}

    @model_validator(mode="after")
    def _one_convention(self) -> Particles:
        if self.kinematics not in CONVENTIONS:
            raise ValueError(
                f"should have px, py, pz and energy; or pt, phi, eta or rapidity, and mass (with eta, energy "
                f"instead of it; with neither, particles are massless); found "
                f"{', '.join(sorted(self.kinematics)) or 'none of them'}"
            )
        if self.massless and "energy" not in self.kinematics:
            raise ValueError("should have massless: true only with energy; otherwise omit mass")
        return self


class Label(Section):
    """A branch with one integer per jet."""

    branch: Name = Field(description="The branch.")
    classes: dict[int, Name] = Field(min_length=1, description="The class for each number.")


class BranchMap(Section):
    """Branches of a tree, or columns of a parquet file, that hold the particles and classes of the jets."""

    tree: Name | None = Field(default=None, description="Name of the tree; not needed for parquet files.")
    particles: Particles = Field(description="Branches with one list per jet.")
    label: Label | None = Field(default=None, description="The class of a jet as a number; alternatively one_hot.")
    one_hot: dict[str, Name] | None = Field(
        default=None, min_length=1, description="For each class, the branch that is 1 for its jets and 0 for others."
    )
    unlabelled: bool = Field(default=False, description="The class of jets is not known; in place of both.")

    @model_validator(mode="after")
    def _one_label(self) -> BranchMap:
        if (self.label is not None) + (self.one_hot is not None) + self.unlabelled != 1:
            raise ValueError(
                "should have one of 'label' and 'one_hot', by which the class of a jet is known; or 'unlabelled: true'"
            )
        return self


def load_map(path: str | Path) -> BranchMap:
    """Load a map from a YAML file.

    Raises:
        StoreError: the map is invalid; the message lists every problem, one per line.
    """
    try:
        return load_model(BranchMap, path)
    except ConfigError as error:
        raise StoreError(str(error)) from error


class MappedReader(Reader):
    """The jets of a table, read from the columns that a map names; without ``format``, the map is its provenance.

    Given energies, masses and rapidities are computed as in ``momentum_columns``. Given eta and mass, rapidity is
    y = asinh(sinh(eta) pt / mT) with mT^2 = m^2 + pt^2, which equals eta for a massless particle.

    Raises:
        StoreError: a column is missing or has a wrong type.
    """

    format: str  # type: ignore[misc]
    cure: ClassVar[str] = "correct the map"

    def __init__(self, table: Table, branches: BranchMap, format: str | None = None) -> None:
        self.path, self.jets, self._table, self._map = table.path, table.rows, table, branches
        self.format = format or f"{table.what} with a branch map"
        label, one_hot = branches.label, branches.one_hot or {}
        self.classes = tuple(dict.fromkeys(label.classes.values() if label else one_hot))
        self._lists = list(dict.fromkeys(branches.particles.columns.values()))
        self._numbers = [label.branch] if label else list(dict.fromkeys(one_hot.values()))
        self.classes = self.classes or ("unlabelled",)
        if format is None:
            self.provenance = {"map": branches.model_dump(exclude_none=True, mode="json")}
        with reading(table.path):
            check_columns(table, self._numbers, self._lists, self.cure)

    def _parts(self, jets_per_part: int) -> Iterator[Jets]:
        begin = 0
        for part in self._table.parts(self._numbers, self._lists, jets_per_part):
            yield (jets := self._jets(part, begin))
            begin += len(jets)

    @np.errstate(over="ignore", invalid="ignore")  # float32 overflows to infinity, which validation rejects
    def _jets(self, part: ColumnPart, begin: int) -> Jets:
        offsets = offsets_of(same_counts(part.lists, begin))
        columns = {key: part.lists[branch].values for key, branch in self._map.particles.columns.items()}
        name = particle_names(offsets, begin)
        particles = self._momenta(columns, name)
        if "pid" in columns:
            pid = columns["pid"].astype(np.int32)
            refuse(pid != columns["pid"], lambda i: f"{name(i)}: pid = {columns['pid'][i]}, expected an integer")
            particles["pid"] = pid
        impact = ("d0", "d0_error", "dz", "dz_error")
        particles |= {key: columns[key].astype(np.float32) for key in impact if key in columns}
        return Jets(particles, offsets, self._label(part, begin), self.classes)

    def _momenta(self, columns: dict[str, np.ndarray], name: Any) -> dict[str, np.ndarray]:
        given = {key: columns[key].astype(np.float64) for key in self._map.particles.kinematics}
        if "pt" in given:
            refuse(
                ~(given["pt"].astype(np.float32) > 0),
                lambda i: f"{name(i)}: pt = {given['pt'][i]:g}, expected pt > 0; drop it at its source",
            )
        if "energy" in given:
            if "pt" in given:
                pt, phi = given["pt"], given["phi"]
                given |= {"px": pt * np.cos(phi), "py": pt * np.sin(phi), "pz": pt * np.sinh(given["eta"])}
            px, py, pz, energy = (given[key] for key in ("px", "py", "pz", "energy"))
            if self._map.particles.massless:
                momentum = np.sqrt(px * px + py * py + pz * pz)
                refuse(
                    ~(np.abs(energy - momentum) <= SPACELIKE * energy),
                    lambda i: (
                        f"{name(i)}: E = {energy[i]:.9g} GeV is not |p| = {momentum[i]:.9g} GeV, expected a massless "
                        "particle; a branch map (--map) without 'massless' reads masses"
                    ),
                )
                energy = momentum
            return momentum_columns(px, py, pz, energy, name)
        pt, mass = given["pt"], given.get("mass", np.zeros_like(given["pt"]))
        rapidity = given.get("rapidity")
        if rapidity is None:
            rapidity = np.arcsinh(pt * np.sinh(given["eta"]) / np.hypot(pt, mass))
        values = {"pt": pt, "rapidity": rapidity, "phi": given["phi"], "mass": mass}
        return {key: column.astype(np.float32) for key, column in values.items()}

    def _label(self, part: ColumnPart, begin: int) -> np.ndarray:
        label, one_hot = self._map.label, self._map.one_hot
        if one_hot:
            flags = [part.numbers[branch] for branch in one_hot.values()]
            return label_of_flags(flags, self.classes, ", ".join(one_hot.values()), begin)
        if label is None:
            return np.zeros(len(next(iter(part.lists.values())).counts), np.int64)
        found = part.numbers[label.branch]
        indices = np.full(len(found), -1, np.int64)
        for number, name in label.classes.items():
            indices[found == number] = self.classes.index(name)
        known = ", ".join(map(str, label.classes))
        refuse(indices < 0, lambda i: f"jet {begin + i}: {label.branch} = {found[i]}, expected one of {known}")
        return indices
