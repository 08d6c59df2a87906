"""Write a trained tagger for other software: iagraph export runs/qg-001 --onnx tagger.onnx [--pt2 FILE].

Before a file is written, its results are checked against PyTorch.
"""

import argparse
import sys
from collections.abc import Sequence

from iagraph.cli.arguments import described
from iagraph.files import user_path

EXTRA = "export"


def main(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Parse the arguments and export."""
    parser.add_argument("run", help="folder of a finished run, for example runs/qg-001, or pretrained:NAME")
    parser.add_argument(
        "--onnx", type=user_path, metavar="NAME.onnx", help="write ONNX, for onnxruntime in C++ or Python"
    )
    parser.add_argument("--opset", type=int, default=20, help="ONNX opset: 18, 19 or 20 (default)")
    parser.add_argument("--float-inputs", action="store_true", help="ONNX: make all inputs float32, integers too")
    parser.add_argument("--pt2", type=user_path, metavar="NAME.pt2", help="write a program for torch.export.load")
    parser.add_argument("--force", action="store_true", help="replace existing files")
    arguments = parser.parse_args(words)
    if arguments.onnx is None and arguments.pt2 is None:
        parser.error("nothing to write: give --onnx FILE, --pt2 FILE or both")
    if arguments.onnx is None and (arguments.float_inputs or arguments.opset != parser.get_default("opset")):
        parser.error("--opset and --float-inputs are for --onnx FILE")
    from iagraph.data import StoreError
    from iagraph.export import ExportError
    from iagraph.export.of_run import export_run
    from iagraph.models import CheckpointError

    options = {"opset": arguments.opset, "float_inputs": arguments.float_inputs}
    try:
        for line in export_run(arguments.run, arguments.onnx, arguments.pt2, arguments.force, **options):
            print(line, flush=True)
    except (CheckpointError, ExportError, StoreError, OSError) as error:
        sys.exit(f"error: {described(error)}")
