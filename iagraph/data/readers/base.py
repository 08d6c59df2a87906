"""What all readers share: the jets of one file in parts, and errors that name the file."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from iagraph.data.jets import Jets, StoreError
from iagraph.data.store import PART
from iagraph.files import reason_and_cure


class Reader(ABC):
    """The jets of one file, in file order, in constant memory.

    Attributes:
        format: What the file is, for people.
        path: The file.
        classes: The names of the classes, in the order of the labels.
        jets: The number of jets in the file.
        splits: The names of the parts that the file records, in their order.
        provenance: What the file says of where its jets come from.
    """

    format: ClassVar[str]
    path: Path
    classes: tuple[str, ...]
    jets: int
    splits: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = MappingProxyType({})

    def parts(self, jets_per_part: int = PART) -> Iterator[Jets]:
        """Every jet with every particle, validated, `jets_per_part` at a time; the last part may be smaller.

        Raises:
            StoreError: If the file is damaged or a value is not as it must be.
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
                raise StoreError(f"found {done} jets, expected {self.jets}; do not change a file while it is read")

    @abstractmethod
    def _parts(self, jets_per_part: int) -> Iterator[Jets]:
        """The jets of `parts`, not yet validated; the messages of errors need not name the file."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Whatever goes wrong inside becomes a StoreError that names the file; only a missing package remains one.

    What the operating system refuses is told as that, see `iagraph.files.reason_and_cure`; all else is damage.
    """
    try:
        yield
    except ImportError:
        raise
    except StoreError as error:  # it may name the file already
        message = str(error)
        raise StoreError(message if message.startswith(f"{path}: ") else f"{path}: {message}") from error.__cause__
    except Exception as error:  # a damaged file makes h5py, zipfile, uproot and pyarrow raise almost anything
        if told := reason_and_cure(error):
            raise StoreError(f"{path}: cannot be read {told}") from error
        reason = (str(error).strip().splitlines() or [""])[0]
        raise StoreError(
            f"{path}: incomplete or damaged ({type(error).__name__}: {reason}); download or copy it anew"
        ) from error


def refuse(bad: np.ndarray, problem: Callable[[int], str]) -> None:
    """StoreError about the first bad item, if there is one: `problem` says what is wrong with the item of an index."""
    if bad.any():
        raise StoreError(problem(int(np.argmax(bad))))
