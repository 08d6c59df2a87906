"""The sample bundled with the package, so the first run needs no download.

``sample:qg`` holds quark and gluon jets from Pythia8 Z + jet events (``configs/generate_qg.yaml``): enough to learn the
tools and compare models, too few for competitive results.
"""

from __future__ import annotations

from pathlib import Path

from iagraph.data.jets import StoreError
from iagraph.files import user_path

_FOLDER = Path(__file__).parent / "samples"
SAMPLES = {"sample:qg": _FOLDER / "qg.h5"}
"""Files of the samples, by the names that configurations use."""


def resolve(name: str) -> Path:
    """The file for a name in a configuration: a bundled sample, or a path with ``~`` expanded.

    Raises:
        StoreError: no such sample.
    """
    if not name.startswith("sample:"):
        return user_path(name)
    if name not in SAMPLES:
        raise StoreError(f"{name}: no such sample; available: {', '.join(SAMPLES)}")
    return SAMPLES[name]
