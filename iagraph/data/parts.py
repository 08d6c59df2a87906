"""Finished tasks of a generation run, kept next to its output until all are complete.

The folder ``OUT.parts`` holds ``generation.json``, which describes the run, and one jet store per finished task. Stores
are complete or absent, so an interrupted run resumes with the missing tasks.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from iagraph.data.jets import Jets, StoreError, offsets_of
from iagraph.data.store import read_store, store_info
from iagraph.data.writer import write_store
from iagraph.files import locked, remove_unfinished, write_text
from iagraph.yaml_config import flat

ABOUT = "generation.json"


class Task(NamedTuple):
    """Task ``number`` of class ``label``: generate ``jets`` jets, with Pythia's seed ``seed``."""

    label: int
    number: int
    jets: int
    seed: int


class Counts(NamedTuple):
    """Numbers of events generated and selected, and Pythia's cross section in mb."""

    events: int
    selected: int
    cross_section: float


class Result(NamedTuple):
    """The jets of a task and its counts."""

    task: Task
    jets: Jets
    counts: Counts


class Parts:
    """The finished tasks of one generation run.

    Args:
        out: the output of the run.
        generation: everything that the jets depend on; must be JSON-serialisable.
    """

    def __init__(self, out: Path, generation: dict[str, Any]) -> None:
        self.folder = out.with_name(f"{out.name}.parts")
        self.generation = json.loads(json.dumps(generation))

    @contextmanager
    def opened(self, force: bool) -> Iterator[None]:
        """Create or reopen the folder; remove it at the end of the block if it holds no tasks.

        Args:
            force: remove the tasks of a different run, if any.

        Raises:
            LockedError: another process is using the folder.
            StoreError: the folder holds tasks of a different run and ``force`` is false, or it cannot be created.
        """
        with self._reported():
            self.folder.mkdir(exist_ok=True)
        try:
            with locked(self.folder / ".lock"):
                try:
                    self._take_up(force)
                    yield
                finally:
                    if not self._files():
                        self.remove()
        finally:
            with suppress(OSError):  # not empty: tasks are kept, or another process is using it
                self.folder.rmdir()

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"{self.folder}: cannot write ({error.strerror}); check permissions and free space, then resume "
                "with the same command"
            ) from error

    def _take_up(self, force: bool) -> None:
        remove_unfinished(self.folder)
        about = self.folder / ABOUT
        found: dict[str, Any] = {}
        with suppress(OSError, ValueError):  # damaged or absent
            found = json.loads(about.read_text(encoding="utf-8"))
        if found != self.generation:
            if self._files() and not force:
                raise StoreError(
                    f"{self.folder}: holds {len(self._files())} finished tasks of another generation (differs in "
                    f"{', '.join(_differences(found, self.generation))}); resume that one with its own command, "
                    "choose another --out, or remove them with --force"
                )
            with self._reported():
                for path in self._files():
                    path.unlink()
                write_text(about, json.dumps(self.generation, indent=2) + "\n")

    def _files(self) -> list[Path]:
        return list(self.folder.glob("*.h5"))

    def _path(self, task: Task) -> Path:
        return self.folder / f"class{task.label}-task{task.number:06}.h5"

    def holds(self, task: Task) -> bool:
        """Whether a task is finished."""
        return self._path(task).exists()

    def keep(self, result: Result) -> None:
        """Write the jets of a task; raises StoreError on failure."""
        write_store(self._path(result.task), result.jets, provenance=result.counts._asdict())

    def joined(self, tasks: Sequence[Task]) -> tuple[Jets, list[Counts]]:
        """The jets of finished tasks (at least one), task by task, and the counts of each.

        Particles stay on disk, in memory-mapped flat files.

        Raises:
            StoreError: a task's file was damaged and has been removed, or the flat files cannot be written.
        """
        multiplicity, label, counts = [], [], []
        files: dict[str, BinaryIO] = {}
        with ExitStack() as stack, self._reported():
            for task in tasks:
                jets, count = self._read(task)
                for name, column in jets.particles.items():
                    if name not in files:
                        files[name] = stack.enter_context((self.folder / f"{name}.flat").open("wb"))
                    column.tofile(files[name])
                multiplicity.append(jets.counts)
                label.append(jets.label)
                counts.append(count)
        particles: dict[str, np.ndarray] = {
            name: np.memmap(self.folder / f"{name}.flat", column.dtype, "r") for name, column in jets.particles.items()
        }
        return Jets(particles, offsets_of(np.concatenate(multiplicity)), np.concatenate(label), jets.classes), counts

    def _read(self, task: Task) -> tuple[Jets, Counts]:
        path = self._path(task)
        try:
            return read_store(path), Counts(**store_info(path).provenance)
        except (StoreError, TypeError) as error:
            path.unlink(missing_ok=True)
            raise StoreError(
                f"{path}: damaged and removed; rerun the same command to regenerate it ({error})"
            ) from error

    def remove(self) -> None:
        """Remove all files in the folder, including the lock file that the caller still holds."""
        for path in self.folder.iterdir():
            with suppress(FileNotFoundError):  # NFS renames open files
                path.unlink()


def _differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    one, other = dict(flat(found)), dict(flat(expected))
    return [key for key in {**other, **one} if one.get(key) != other.get(key)]
