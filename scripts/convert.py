"""Convert public jet files (Top tagging reference, EnergyFlow quark/gluon, JetClass) to one jet store; joins stores."""

import argparse
import sys
from pathlib import Path

try:
    from iagraph.data.convert import convert
    from iagraph.data.jets import StoreError
    from iagraph.data.store import store_info
    from iagraph.plotting import save_figure
except ImportError as error:
    sys.exit(f"error: {error}: pip install 'iagraph[data]'")


def _store(text: str) -> Path:
    path = Path(text)
    if path.suffix != ".h5" or path.is_dir():
        raise argparse.ArgumentTypeError(f"should be the name of a file that ends in .h5, found {text}")
    return path


def main() -> None:
    """Parse the arguments, convert, draw, and say what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", metavar="FILE", help="recognised by their content; all in one format")
    parser.add_argument("--out", required=True, type=_store, metavar="NAME.h5", help="writes NAME.h5, .png and .pdf")
    parser.add_argument("--force", action="store_true", help="replace existing files")
    arguments = parser.parse_args()
    store, figure = arguments.out, arguments.out.with_suffix("")
    try:
        for suffix in (".png", ".pdf"):
            if figure.with_suffix(suffix).exists() and not arguments.force:
                raise StoreError(f"{figure}{suffix}: exists already; choose another name, or --force to replace it")
        overview = convert(arguments.files, store, force=arguments.force)
    except (StoreError, ImportError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted: nothing was written")
    info = store_info(store)
    size = f"{info.bytes / 1e6:.1f} MB, {info.bytes / max(info.particles, 1):.1f} bytes a particle"
    print(f"{store}: {info.jets:,} jets, {info.particles:,} particles, {size}\n\n{overview.table()}")
    print(f"\nfingerprint {info.fingerprint}")
    try:
        save_figure(overview.figure(), figure)
    except OSError as error:
        sys.exit(f"error: the store is complete, but the figure cannot be written ({error})")
    print(f"Look at {figure}.png: is this what you expected?")


if __name__ == "__main__":
    main()
