"""Convert public jet files (Top tagging reference, EnergyFlow quark/gluon, JetClass) to one jet store."""

import argparse
import sys
from pathlib import Path

try:
    from iagraph.data.convert import convert
    from iagraph.data.jets import StoreError
    from iagraph.data.store import store_info
    from iagraph.plotting import save_figure
except ImportError as error:
    sys.exit(f"error: {error}; pip install 'iagraph[data]'")


def main() -> None:
    """Parse the arguments, convert, and say what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", metavar="FILE", help="recognised by their content; all in one format")
    parser.add_argument("--out", required=True, type=Path, metavar="STORE", help="jet store to write, FILE.h5")
    parser.add_argument("--force", action="store_true", help="replace an existing store")
    arguments = parser.parse_args()
    try:
        overview = convert(arguments.files, arguments.out, force=arguments.force)
        figure = arguments.out.with_suffix("")
        save_figure(overview.figure(), figure)
    except (StoreError, ImportError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted: nothing was written")
    info = store_info(arguments.out)
    size = f"{info.bytes / 1e6:.1f} MB, {info.bytes / max(info.particles, 1):.1f} bytes a particle"
    print(f"{arguments.out}: {info.jets:,} jets, {info.particles:,} particles, {size}\n\n{overview.table()}")
    print(f"\nfingerprint {info.fingerprint}\nLook at {figure}.png: is this what you expected?")


if __name__ == "__main__":
    main()
