"""Measure speed and memory on this machine; print Markdown and optionally write JSON."""

import argparse
import sys
from collections.abc import Sequence

from iagraph.cli.arguments import positive
from iagraph.files import user_path


def main(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Parse the arguments, measure, and print."""
    parser.add_argument("--json", type=user_path, metavar="FILE", help="write the numbers to this file, too")
    commands = parser.add_subparsers(dest="command", required=True)
    loader = commands.add_parser("loader", help="jets per second of our loaders and PyTorch Geometric's")
    loader.add_argument("--jets", type=positive, default=500_000, help="jets in the store (default: %(default)s)")
    loader.add_argument("--batch-size", type=positive, default=256, help="jets per batch (default: %(default)s)")
    loader.add_argument("--repeats", type=positive, default=3, help="epochs timed (default: %(default)s)")
    convert = commands.add_parser("convert", help="jets per second and memory of converting published formats")
    convert.add_argument(
        "--jets", type=positive, default=100_000, help="jets of the larger files (default: %(default)s)"
    )
    cost = commands.add_parser("cost", help="time and memory against the number of particles per jet")
    cost.add_argument("--repeats", type=positive, default=3, help="timed runs per point (default: %(default)s)")
    cost.add_argument("--figure", type=user_path, metavar="FIGURE", help="draw the numbers to FIGURE.png and .pdf")
    pruning = commands.add_parser("pruning", help="savings by dropping edges")
    pruning.add_argument("--repeats", type=positive, default=9, help="timed runs per model (default: %(default)s)")
    epoch = commands.add_parser("epoch", help="where the time of a training epoch goes")
    epoch.add_argument("config", help="name or YAML file, for example qg or configs/qg.yaml")
    epoch.add_argument(
        "overrides", nargs="*", metavar="key=value", help="changes of single keys, such as data.workers=1"
    )
    run = commands.add_parser("run", help="time and peak memory of a whole training, from its start to the report")
    run.add_argument("recipe", help="name or YAML file, for example qg or configs/qg.yaml")
    run.add_argument("overrides", nargs="*", metavar="key=value", help="changes of single keys, such as train.epochs=3")
    models = commands.add_parser("models", help="speed and memory of our models and other implementations")
    models.add_argument(
        "--batches", type=positive, default=5, help="rounds, each with a different batch (default: %(default)s)"
    )
    models.add_argument("--batch-size", type=positive, default=64, help="jets per batch (default: %(default)s)")
    models.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    latency = commands.add_parser("latency", help="time per jet of exported models, compared with weaver-core's")
    latency.add_argument("--rounds", type=positive, default=5, help="rounds timed (default: %(default)s)")
    arguments = parser.parse_args(words)
    if arguments.command == "loader":
        from benchmark.loader import benchmark_loader

        report = benchmark_loader(arguments.jets, arguments.batch_size, arguments.repeats)
    elif arguments.command == "models":
        from benchmark.models import benchmark_models

        try:
            report = benchmark_models(arguments.batches, arguments.batch_size, arguments.device)
        except (ImportError, ValueError) as error:  # no weaver-core, or no such device
            sys.exit(f"error: {error}")
    elif arguments.command == "latency":
        try:
            from benchmark.latency import benchmark_latency

            report = benchmark_latency(arguments.rounds)
        except ImportError as error:  # no weaver-core, or no onnxruntime
            sys.exit(f"error: {error}")
    elif arguments.command == "cost":
        from benchmark.cost import benchmark_cost, figure_of  # needs the packages of iagraph[train]
        from iagraph.plotting import save_figure

        report = benchmark_cost(arguments.repeats)
        if arguments.figure is not None:
            save_figure(figure_of(report.rows), arguments.figure)
    elif arguments.command == "pruning":
        try:
            from benchmark.pruning import benchmark_pruning
        except ImportError as error:
            sys.exit(f"error: {error}")

        report = benchmark_pruning(arguments.repeats)
    elif arguments.command == "epoch":
        from benchmark.epoch import benchmark_epoch  # needs the packages of iagraph[train]
        from iagraph.train.config import load_config
        from iagraph.train.trainer import USER_ERRORS

        try:
            report = benchmark_epoch(load_config(arguments.config, arguments.overrides))
        except USER_ERRORS as error:
            sys.exit(f"error: {error}")
    elif arguments.command == "run":
        from benchmark.whole_run import benchmark_run
        from iagraph.train.trainer import USER_ERRORS

        try:
            report = benchmark_run(arguments.recipe, arguments.overrides)
        except USER_ERRORS as error:
            sys.exit(f"error: {error}")
    else:
        from benchmark.convert import benchmark_convert  # needs the packages of iagraph[data]

        report = benchmark_convert(arguments.jets)
    print(report.markdown())
    if arguments.json is not None:
        report.write(arguments.json)
