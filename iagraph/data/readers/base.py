"""Base class of all readers, which read a file part by part, and errors that name the file."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from iagraph.data.jets import Jets, StoreError
from iagraph.data.store import PART
from iagraph.files import explain_os_error


class Reader(ABC):
    """The jets of one file, in file order, in constant memory.

    Attributes:
        format: human-readable name of the format.
        path: the file.
        classes: class names in label order.
        jets: number of jets in the file.
        splits: names of the recorded splits, in order.
        provenance: recorded origin of the jets.
    """

    format: ClassVar[str]
    path: Path
    classes: tuple[str, ...]
    jets: int
    splits: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = MappingProxyType({})

    def parts(self, jets_per_part: int = PART) -> Iterator[Jets]:
        """All jets with all particles, validated, ``jets_per_part`` at a time; the last part may be smaller.

        Raises:
            StoreError: the file is damaged or a value is invalid.
        """
        if jets_per_part < 1:
            raise StoreError(f"{self.path}: jets_per_part is {jets_per_part}, expected 1 or more")
        done = 0
        with reading(self.path):
            for part in self._parts(jets_per_part):
                part.validate(str(self.path), done)
                done += len(part)
                yield part
            if done != self.jets:
                raise StoreError(f"found {done} jets, expected {self.jets}; do not modify a file while it is read")

    @abstractmethod
    def _parts(self, jets_per_part: int) -> Iterator[Jets]:
        """The jets of ``parts``, not yet validated; error messages need not name the file."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn any error in the block into a StoreError that names the file, except ImportError for a missing package.

    ``iagraph.files.explain_os_error`` explains errors of the operating system; all others are reported as damage.
    """
    try:
        yield
    except ImportError:
        raise
    except StoreError as error:  # may already name the file
        message = str(error)
        raise StoreError(message if message.startswith(f"{path}: ") else f"{path}: {message}") from error.__cause__
    except Exception as error:  # on damaged files h5py, zipfile, uproot and pyarrow raise almost anything
        if reason := explain_os_error(error):
            raise StoreError(f"{path}: cannot be read {reason}") from error
        reason = (str(error).strip().splitlines() or [""])[0]
        raise StoreError(
            f"{path}: incomplete or damaged ({type(error).__name__}: {reason}); download or copy it again"
        ) from error


def refuse(bad: np.ndarray, problem: Callable[[int], str]) -> None:
    """Raise StoreError for the first bad item, if any, as described by ``problem`` given its index."""
    if bad.any():
        raise StoreError(problem(int(np.argmax(bad))))
