"""Write the scores of jets in files: iagraph predict runs/qg-001 jets.root --out scores.parquet.

Columns: file and jet, indices from 0; score_CLASS, the probability of each class, at the class fractions of training;
and, if any jets have a class of the model, label, the index of the true class, or -1 for other classes.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence

from iagraph.cli.arguments import branch_map, described, positive
from iagraph.cli.process import prepare_process
from iagraph.files import user_path

INTERRUPTED = "nothing was written"


def main(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Parse the arguments and write scores."""
    parser.add_argument(
        "model", help="folder of a run, a model of the package (pretrained:qg), or an exported one (.onnx, .pt2)"
    )
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="names or patterns, recognised by their content, or sample:qg"
    )
    parser.add_argument("--out", type=user_path, required=True, help="ends in .parquet, .h5, .csv or .root")
    parser.add_argument("--map", type=user_path, metavar="FILE.yaml", help="branches to read, as in iagraph convert")
    parser.add_argument("--batch-size", type=positive, default=64, help="jets per batch (default: %(default)s)")
    parser.add_argument("--device", choices=["cpu", "cuda", "mps"], help="device of a run (default: cuda if available)")
    parser.add_argument("--force", action="store_true", help="replace an existing file")
    arguments = parser.parse_intermixed_args(words)
    from tqdm import tqdm

    from iagraph.data import StoreError
    from iagraph.models import CheckpointError
    from iagraph.predict.predictors import Scores, open_files, open_model
    from iagraph.predict.writers import check_format, write_scores

    prepare_process()
    out = arguments.out
    try:
        check_format(out)
        if out.is_dir():
            raise StoreError(f"{out}: a folder; name a file in it")
        if out.exists() and not arguments.force:
            raise StoreError(f"{out}: already exists; choose another name, or --force to replace it")
        branches = branch_map(arguments.map)
        model, readers = open_model(arguments.model, arguments.device), open_files(arguments.files, branches)
        if out.resolve() in [reader.path.resolve() for reader in readers]:
            raise StoreError(f"{out}: holds jets to score, which scores would replace; choose another name")
        labelled = any(name in model.classes for reader in readers for name in reader.classes)
        about = {"model": arguments.model, "files": [str(reader.path) for reader in readers]}
        jets = sum(reader.jets for reader in readers)
        with tqdm(total=jets, unit="jet", unit_scale=True) as progress:

            def parts() -> Iterator[Scores]:
                for part in model.scores(readers, arguments.batch_size):
                    yield part
                    progress.update(len(part.probabilities))

            write_scores(out, parts(), model.classes, about, labelled)
    except (CheckpointError, StoreError, OSError) as error:
        sys.exit(f"error: {described(error)}")
    print(f"{out}: scores of {jets:,} jets, classes {', '.join(model.classes)}")
    for reader in readers:
        if (seen := model.trained_on(reader)) is not None:
            print(f"{reader.path}: the model was trained on {seen}, whose scores say little about others")
