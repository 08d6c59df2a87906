"""Studies of models, each with tables and figures: iagraph study STUDY --help explains one."""

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from iagraph.cli.arguments import positive, recipe_for, trained
from iagraph.cli.process import prepare_process
from iagraph.files import user_path

EXTRA = "train"
INTERRUPTED = "finished runs are kept; the same command resumes"

Study = Callable[[], Path]
"""Function that runs a study and returns its folder."""

COMPARE = "train models over several seeds on the same jets; write tables and a figure. The same command resumes."
CURVE = (
    "train models on more and more of the same jets; write tables, power laws and a figure.\nThe same command resumes."
)
PRUNE = (
    "prune a trained model by rules and, for comparison, at random and by kinematics;\n"
    "write edges kept, cost, performance and the kinds of edges kept. Trains only\n"
    "with --retrain."
)
STUDIES_OF_RUNS = {
    "sparsity": "how binary the attention of trained models is, what makes it so, and which particles it links",
    "similarity": "attention maps, beta, and the similarity of the layers of trained models",
    "attribution": "which particles matter, by several methods, and displays of jets",
    "stability": "how much the outputs of trained models vary with seeds, training jets and the measurement",
    "mechanism": "what single heads and pair features of a trained model do, and what its layers encode",
}
"""Studies of finished runs: each is a package in :mod:`iagraph.studies`, with a function ``study.study``."""


def main(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Parse the arguments and run the study."""
    commands = parser.add_subparsers(dest="command", required=True, metavar="STUDY")
    compare_parser = _add_compare(commands, "compare", COMPARE, _compare, "compare_qg")
    curve_parser, prune_parser = _add_compare(commands, "curve", CURVE, _curve, "curve_qg"), _add_prune(commands)
    for name, text in STUDIES_OF_RUNS.items():
        _add_study_of_runs(commands, name, text)
    if {"-h", "--help"} & set(words):
        from iagraph.studies.compare.config import CompareConfig
        from iagraph.studies.curve.config import CurveConfig
        from iagraph.studies.pruning.rules import describe_rules
        from iagraph.yaml_config import describe

        compare_parser.epilog = f"keys of a comparison:\n\n{describe(CompareConfig)}"
        curve_parser.epilog = f"keys of a learning curve:\n\n{describe(CurveConfig)}"
        prune_parser.epilog = f"rules, and the numbers tried unless --rules names others:\n\n{describe_rules()}"
    arguments, more = parser.parse_known_args(words)
    if arguments.command in ("compare", "curve"):  # overrides may follow the options
        arguments.overrides += [item for item in more if not item.startswith("-")]
        more = [item for item in more if item.startswith("-")]
    if more:
        parser.error(f"unrecognized arguments: {' '.join(more)}")
    study = arguments.study(arguments, shlex.join(["iagraph", "study", *words]))
    from iagraph.train.trainer import USER_ERRORS

    prepare_process()
    try:
        folder = study()
    except USER_ERRORS as error:
        sys.exit(f"error: {error}")
    print(f"\n{(folder / 'table.md').read_text(encoding='utf-8')}\nResults: {folder}")


def _add_compare(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    text: str,
    study: Callable[[argparse.Namespace, str], Study],
    example: str,
) -> argparse.ArgumentParser:
    parser = _add_study(commands, name, text, study)
    parser.add_argument(
        "config",
        type=recipe_for(f"study {name}"),
        help=f"name or YAML file, for example {example} or configs/{example}.yaml",
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes of single keys, such as seeds=[1,2]")
    parser.add_argument(
        "--jobs", type=positive, default=1, metavar="N", help="concurrent runs, which share the threads (default: 1)"
    )
    return parser


def _add_prune(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    parser = _add_study(commands, "prune", PRUNE, _prune)
    parser.add_argument(
        "run", type=trained, metavar="RUN", help="folder of a finished run with attention, or pretrained:NAME"
    )
    parser.add_argument(
        "--rules", nargs="+", metavar="RULE=N,...", help="rules to try, for example top_k=8,4 edge_budget=0.3"
    )
    parser.add_argument("--per-head", action="store_true", help="each head chooses its own edges")
    parser.add_argument(
        "--renormalize", action="store_true", help="drop before the softmax, so that kept weights sum to one"
    )
    parser.add_argument(
        "--survivors",
        default="edge_budget=0.3",
        metavar="RULE=N",
        help="the rule whose kept edges are described (default: %(default)s)",
    )
    parser.add_argument(
        "--jets", type=positive, default=2000, metavar="N", help="test jets, evenly spaced (default: %(default)s)"
    )
    parser.add_argument(
        "--retrain",
        type=positive,
        metavar="EPOCHS",
        help="also continue training with each of --rules, and with none, from the weights of RUN at a tenth of its "
        "learning rate; finished trainings are kept (iaformer and cascaded_iaformer)",
    )
    parser.add_argument(
        "--out",
        type=user_path,
        metavar="FOLDER",
        help="output, new or of an earlier study (default: studies/prune-RUN)",
    )
    return parser


def _add_study(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    text: str,
    study: Callable[[argparse.Namespace, str], Study],
) -> argparse.ArgumentParser:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = commands.add_parser(name, help=text, description=text, formatter_class=formatter)
    parser.set_defaults(study=study, error=parser.error)
    return parser


def _add_study_of_runs(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str) -> None:
    parser = _add_study(commands, name, text, _study_of_runs)
    parser.add_argument(
        "runs",
        type=trained,
        nargs="+",
        metavar="RUN",
        help="folder of a finished run with attention, or pretrained:NAME",
    )
    parser.add_argument(
        "--jets", type=positive, default=1000, metavar="N", help="test jets, evenly spaced (default: %(default)s)"
    )
    parser.add_argument(
        "--out",
        type=user_path,
        metavar="FOLDER",
        help=f"output, new or of an earlier study (default: studies/RUN/{name} with the name of the first run; the "
        "report of all studies of a run is studies/RUN/report.html)",
    )


def _study_of_runs(arguments: argparse.Namespace, command: str) -> Study:
    study = import_module(f"iagraph.studies.{arguments.command}.study").study
    from iagraph.studies.runs import Plan

    folder = arguments.out or Path("studies") / arguments.runs[0].resolve().name / arguments.command
    return lambda: study(Plan(arguments.runs, folder, arguments.jets, command))


def _compare(arguments: argparse.Namespace, command: str) -> Study:
    from iagraph.studies.compare.config import load_comparison
    from iagraph.studies.compare.study import compare

    return lambda: compare(load_comparison(arguments.config, arguments.overrides), arguments.jobs, command)


def _curve(arguments: argparse.Namespace, command: str) -> Study:
    from iagraph.studies.curve.config import load_curve
    from iagraph.studies.curve.study import curve

    return lambda: curve(load_curve(arguments.config, arguments.overrides), arguments.jobs, command)


def _prune(arguments: argparse.Namespace, command: str) -> Study:
    if arguments.retrain is not None and not arguments.rules:
        arguments.error("--retrain trains with each of the rules: name them with --rules")
    from iagraph.studies.pruning.rules import default_rules, parse_rule, parse_rules
    from iagraph.studies.pruning.study import PruningStudy, prune

    how = (arguments.per_head, arguments.renormalize)
    folder = arguments.out or Path("studies") / f"prune-{arguments.run.resolve().name}"

    def study() -> Path:
        rules = parse_rules(arguments.rules, *how) if arguments.rules else default_rules(*how)
        inspected = parse_rule(arguments.survivors, *how)
        return prune(PruningStudy(arguments.run, folder, rules, inspected, arguments.jets, arguments.retrain, command))

    return study
