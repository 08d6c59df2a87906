"""Finished tasks of a generation, kept beside its output until all jets are there.

The folder `OUT.parts` holds `generation.json`, what is generated, and a jet store per finished task, which is there
whole or not at all. So whatever ends a generation, the next one goes on with what is missing.
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
    """`jets` jets of class `label`; `seed` is Pythia's."""

    label: int
    number: int
    jets: int
    seed: int


class Counts(NamedTuple):
    """How many events were made, how many passed, and Pythia's cross section in mb."""

    events: int
    selected: int
    cross_section: float


class Result(NamedTuple):
    """The jets of a task, and how they came about."""

    task: Task
    jets: Jets
    counts: Counts


class Parts:
    """The finished tasks of one generation.

    Args:
        out: Its output.
        generation: All that its jets depend on, as JSON can hold it.
    """

    def __init__(self, out: Path, generation: dict[str, Any]) -> None:
        self.folder = out.with_name(f"{out.name}.parts")
        self.generation = json.loads(json.dumps(generation))

    @contextmanager
    def opened(self, force: bool) -> Iterator[None]:
        """Makes the folder, or takes up the one there is; when the block ends with nothing kept, it is removed.

        Args:
            force: Remove the tasks of another generation.

        Raises:
            LockedError: Another process works there.
            StoreError: It holds tasks of another generation, or cannot be made.
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
            with suppress(OSError):  # which stays if anything is kept, or another process works there
                self.folder.rmdir()

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"{self.folder}: cannot write ({error.strerror}); check permissions and free space, and the same "
                "command goes on"
            ) from error

    def _take_up(self, force: bool) -> None:
        remove_unfinished(self.folder)
        about = self.folder / ABOUT
        found: dict[str, Any] = {}
        with suppress(OSError, ValueError):  # damaged, or not there yet
            found = json.loads(about.read_text(encoding="utf-8"))
        if found != self.generation:
            if self._files() and not force:
                raise StoreError(
                    f"{self.folder}: holds {len(self._files())} finished tasks of another generation (differs in "
                    f"{', '.join(_differences(found, self.generation))}); go on with that one by its own command, "
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
        """Write the jets of a task; StoreError if that is not possible."""
        write_store(self._path(result.task), result.jets, provenance=result.counts._asdict())

    def joined(self, tasks: Sequence[Task]) -> tuple[Jets, list[Counts]]:
        """The jets of all tasks, one task after another, and how those of each came about.

        Particles stay on disk: they are copied to flat files, of which the system reads what is asked for.

        Raises:
            StoreError: A task's file is damaged, and has been removed.
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
            raise StoreError(f"{path}: damaged, and removed; the same command makes it anew ({error})") from error

    def remove(self) -> None:
        """Remove all that is kept, the lock, too: its holder is done."""
        for path in self.folder.iterdir():
            with suppress(FileNotFoundError):  # NFS renames what is open
                path.unlink()


def _differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    one, other = dict(flat(found)), dict(flat(expected))
    return [key for key in {**other, **one} if one.get(key) != other.get(key)]
