"""Train and evaluate a tagger: iagraph train qg [key=value ...].

A recipe is a file, or the name of a packaged recipe (iagraph recipes).
Resume an interrupted run after its last complete epoch: iagraph train --resume RUN.
Train a finished run further: iagraph train --resume RUN train.epochs=20.
"""

import argparse
import sys
from collections.abc import Sequence

from iagraph.cli.arguments import recipe_for
from iagraph.cli.process import prepare_process
from iagraph.files import user_path

EXTRA = "train"


def main(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Parse the arguments and train."""
    parser.add_argument(
        "recipe", nargs="?", type=recipe_for("train"), help="name or YAML file, for example qg or configs/qg.yaml"
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="changes of single keys, such as train.epochs=3"
    )
    parser.add_argument("--resume", type=user_path, metavar="RUN", help="resume the interrupted run of this folder")
    parser.add_argument(
        "--into",
        type=user_path,
        metavar="FOLDER",
        help="the run folder, instead of the next free one in `output`; resumes an interrupted run of the same "
        "configuration there",
    )
    if {"-h", "--help"} & set(words):
        from iagraph.train.config import describe_config

        parser.epilog = f"keys of a recipe:\n\n{describe_config()}"
    arguments = parser.parse_intermixed_args(words)
    changes = arguments.overrides
    if arguments.resume is not None and arguments.recipe is not None:
        changes = [arguments.recipe, *changes]
        if "=" not in changes[0]:
            parser.error("a run resumes with its own recipe: --resume takes no recipe")
    elif arguments.recipe is None and arguments.resume is None:
        parser.error("give a recipe, or --resume and the folder of a run")
    if arguments.resume is not None and arguments.into:
        parser.error("a run resumes in its own folder: --resume takes no --into")
    from iagraph.train.config import load_config
    from iagraph.train.folder import RunError
    from iagraph.train.processes import rank
    from iagraph.train.run import resume, train
    from iagraph.train.trainer import USER_ERRORS

    prepare_process()
    try:
        if arguments.resume is not None:
            folder = resume(arguments.resume, changes)
        else:
            folder = train(load_config(arguments.recipe, changes), into=arguments.into)
    except USER_ERRORS as error:
        if isinstance(error, RunError) and isinstance(error.__cause__, SystemExit):  # Ctrl-C, as reported by Lightning
            raise KeyboardInterrupt(str(error)) from error
        sys.exit(f"error: {error}")
    if rank():  # only the first process reports
        return
    report = (folder / "report.md").read_text(encoding="utf-8")
    print(f"\n{report}\nResults: {folder}")
