"""Ragged jets in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from iagraph.kinematics import LIMITS

REQUIRED_COLUMNS = ("pt", "rapidity", "phi", "mass")
DTYPES = dict.fromkeys(REQUIRED_COLUMNS, "float32") | {"pid": "int32", "offsets": "int64", "label": "int64"}
DTYPES |= {"weight of jets": "float32"}


class StoreError(ValueError):
    """A jet store, or jets to be stored, are invalid. The message says where and what to do."""


def offsets_of(counts: ArrayLike) -> np.ndarray:
    """Boundaries of J jets, int64 [J + 1], from their numbers of particles."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Jets:
    """Ragged jets in memory: particles are flat, jet b owns offsets[b]:offsets[b+1].

    Args:
        particles: one array of length P per column. Always ``pt`` (GeV, above 0), ``rapidity``, ``phi`` (rad) and
            ``mass`` (GeV), each float32; ``pid`` (signed PDG id, int32) if known; further numeric columns are allowed.
        offsets: int64 [J + 1], from 0 to P, non-decreasing: jets may be empty.
        label: int64 [J], the index of the jet's class in ``classes``.
        classes: class names, for example ("gluon", "quark").
        weight: float32 [J], weights of the jets in losses and metrics, if any. They must not be negative: otherwise
            losses have no lower bound, and efficiencies are not monotonic.
    """

    particles: dict[str, np.ndarray]
    offsets: np.ndarray
    label: np.ndarray
    classes: tuple[str, ...]
    weight: np.ndarray | None = None

    def __post_init__(self) -> None:
        if isinstance(self.classes, str):
            raise StoreError(f'classes should be names, for example ("gluon", "quark"), found {self.classes!r}')
        object.__setattr__(self, "classes", tuple(self.classes))

    def __len__(self) -> int:
        return len(self.label)

    @property
    def counts(self) -> np.ndarray:
        """Number of particles per jet, int64 [J]."""
        return np.diff(self.offsets)

    def digests(self) -> np.ndarray:
        """A hash per jet, uint64, by which equal jets are recognised in other files.

        It depends on pt, rapidity and phi of the particles, but not on their order. Jets with fewer than two particles
        are too simple to distinguish and are left out.
        """
        particle = np.zeros(int(self.offsets[-1]), np.uint64)
        for name in ("pt", "rapidity", "phi"):
            particle = _scramble(particle + self.particles[name].astype(np.float32).view(np.uint32))
        # Unsigned sums wrap around, so their differences are exact.
        total = np.concatenate([np.zeros(1, np.uint64), np.cumsum(particle, dtype=np.uint64)])
        return (total[self.offsets[1:]] - total[self.offsets[:-1]])[self.counts >= 2]

    def take(self, indices: ArrayLike) -> "Jets":
        """The jets at ``indices``, with NumPy's rules: any order, repeats, negative indices or a boolean mask."""
        index = np.asarray(indices)
        index = index.astype(np.int64) if index.size == 0 else index  # NumPy makes an empty list float
        counts, starts = self.counts[index], self.offsets[:-1][index]
        offsets = offsets_of(counts)
        flat = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], counts)
        particles = {name: column[flat] for name, column in self.particles.items()}
        weight = None if self.weight is None else self.weight[index]
        return Jets(particles, offsets, self.label[index], self.classes, weight)

    def part(self, begin: int, end: int) -> "Jets":
        """The jets begin:end, without copying their particles."""
        offsets = self.offsets[begin : end + 1]
        particles = {name: column[offsets[0] : offsets[-1]] for name, column in self.particles.items()}
        weight = None if self.weight is None else self.weight[begin:end]
        return Jets(particles, offsets - offsets[0], self.label[begin:end], self.classes, weight)

    @staticmethod
    def concatenate(parts: Sequence["Jets"]) -> "Jets":
        """All jets of ``parts`` (at least one), in order; raises StoreError if classes or columns differ."""
        if not parts:
            raise StoreError("Jets.concatenate: no parts; give at least one")
        if len(parts) == 1:
            return parts[0]
        first, *others = [
            (part.classes, {k: v.dtype.name for k, v in part.particles.items()}, part.weight is not None)
            for part in parts
        ]
        for number, other in enumerate(others, start=1):
            if other != first:
                raise StoreError(f"Jets.concatenate: part 0 has {first}, part {number} {other}; make them equal")
        particles = {name: np.concatenate([part.particles[name] for part in parts]) for name in first[1]}
        counts = np.concatenate([part.counts for part in parts])
        label = np.concatenate([part.label for part in parts])
        weights = [part.weight for part in parts if part.weight is not None]
        return Jets(particles, offsets_of(counts), label, first[0], np.concatenate(weights) if weights else None)

    @staticmethod
    def from_padded(
        particles: Mapping[str, ArrayLike],
        label: ArrayLike,
        classes: Sequence[str],
        real: ArrayLike | None = None,
        weight: ArrayLike | None = None,
    ) -> "Jets":
        """Jets from tables padded, for example with zeros, to an equal number of particles.

        Args:
            particles: one table [jets, slots] per column of ``Jets``, cast to the column's type.
            label: the class of each jet, [jets].
            classes: class names.
            real: which slots hold a particle, bool [jets, slots]; by default those with non-zero pt.
            weight: weights of the jets, [jets], if any.
        """
        tables = {name: np.asarray(table) for name, table in particles.items()}
        held = tables["pt"] != 0 if real is None else np.asarray(real, bool)
        columns = {name: table[held].astype(DTYPES.get(name, table.dtype)) for name, table in tables.items()}
        weights = None if weight is None else np.asarray(weight, np.float32)
        labels = np.asarray(label).astype(DTYPES["label"])
        return Jets(columns, offsets_of(held.sum(1)), labels, classes, weights)  # type: ignore[arg-type]  # as a tuple

    def validate(self, where: str, first: int = 0) -> None:
        """Check structure and every value; StoreError names ``where`` and the first bad jet, counted from ``first``."""
        if problem := self._structure_problem(first) or self._value_problem(first):
            raise StoreError(f"{where}: {problem}; correct it, or drop the jet, at its source")

    def _structure_problem(self, first: int) -> str | None:
        if missing := [name for name in REQUIRED_COLUMNS if name not in self.particles]:
            return f"lacks {', '.join(missing)}, expected {', '.join(REQUIRED_COLUMNS)}"
        columns = {**self.particles, "offsets": self.offsets, "label": self.label}
        columns |= {} if self.weight is None else {"weight of jets": self.weight}
        for name, column in columns.items():
            wanted = DTYPES.get(name)
            if not isinstance(column, np.ndarray):
                return f"{name} is a {type(column).__name__}, expected a NumPy array of {wanted or 'numbers'}"
            if column.ndim != 1 or column.dtype.kind not in "iuf" or (wanted and column.dtype != wanted):
                return f"{name} is {column.dtype} of shape {column.shape}, expected 1-D {wanted or 'numbers'}"
        if len(set(self.classes)) < len(self.classes):
            return f"classes {self.classes} hold a name twice"
        if len(self.offsets) != len(self.label) + 1 or self.offsets[0] != 0:
            return f"found {len(self.offsets)} offsets, expected {len(self.label) + 1} (labels + 1), the first one 0"
        if self.weight is not None and len(self.weight) != len(self.label):
            return f"found {len(self.weight)} weights, expected {len(self.label)}, one per jet"
        for jet in np.flatnonzero(self.counts < 0)[:1]:
            return f"jet {first + jet} has offsets {self.offsets[jet : jet + 2].tolist()}, expected no decrease"
        for name, column in self.particles.items():
            if len(column) != self.offsets[-1]:
                return f"{name} has {len(column)} values, expected {self.offsets[-1]}, the last offset"
        return None

    def _value_problem(self, first: int) -> str | None:
        for jet in np.flatnonzero((self.label < 0) | (self.label >= len(self.classes)))[:1]:
            return f"jet {first + jet} has label {self.label[jet]}, expected an index into {self.classes}"
        if self.weight is not None:
            for jet in np.flatnonzero(~(np.isfinite(self.weight) & (self.weight >= 0)))[:1]:
                return (
                    f"jet {first + jet} has the weight {self.weight[jet]}, expected finite and not negative: "
                    "else losses have no lower bound and efficiencies are not monotonic"
                )
        found = []
        for name, column in self.particles.items():
            rule, bad = "finite", ~np.isfinite(column)
            if name == "pt":
                rule, bad = "finite and above 0", bad | (column <= 0)
            if name == "mass":
                rule, bad = "finite and not negative", bad | (column < 0)
            if name in LIMITS:
                rule, bad = f"{rule}, at most {LIMITS[name]:g}", bad | (np.abs(column) > LIMITS[name])
            found += [(particle, name, rule) for particle in np.flatnonzero(bad)[:1]]
        for particle, name, rule in sorted(found)[:1]:
            jet = int(np.searchsorted(self.offsets, particle, side="right")) - 1
            value = self.particles[name][particle]
            advice = "; Jets.from_padded removes the padding of tables" if name == "pt" and value == 0 else ""
            where = f"jet {first + jet}, particle {particle - self.offsets[jet]}"
            return f"{where}: {name} = {value}, expected {rule}{advice}"
        return None


def _scramble(x: np.ndarray) -> np.ndarray:
    """Finalizer of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): decorrelates neighbouring numbers."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
