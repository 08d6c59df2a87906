"""Train and evaluate a tagger: python scripts/train.py configs/qg.yaml [key=value ...].

A run that was interrupted goes on after its last whole epoch: python scripts/train.py --resume RUN.
One that has finished is trained further: python scripts/train.py --resume RUN train.epochs=20.
"""

import argparse
import sys

from iagraph.command_line import escape_unprintable
from iagraph.files import user_path


def main() -> None:
    """Parses the command line and trains."""
    escape_unprintable()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=user_path, nargs="?", help="YAML file, for example configs/qg.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes of single keys, train.epochs=3")
    parser.add_argument("--resume", type=user_path, metavar="RUN", help="go on with the interrupted run of this folder")
    parser.add_argument(
        "--into",
        type=user_path,
        metavar="FOLDER",
        help="the run folder, in place of the next free one in `output`; where it holds an interrupted run of the same "
        "configuration, that goes on",
    )
    try:
        if {"-h", "--help"} & set(sys.argv[1:]):
            from iagraph.train.config import describe_config

            parser.epilog = f"keys of a configuration:\n\n{describe_config()}"
        arguments = parser.parse_args()
        changes = arguments.overrides
        if arguments.resume is not None and arguments.config is not None:
            changes = [str(arguments.config), *changes]
            if "=" not in changes[0]:
                parser.error("a run goes on as it began: --resume takes no file of a configuration")
        elif arguments.config is None and arguments.resume is None:
            parser.error("give the file of a configuration, or --resume and the folder of a run")
        if arguments.resume is not None and arguments.into:
            parser.error("a run goes on in its folder: --resume takes no --into")
        from iagraph.memory import keep_freed_memory
        from iagraph.train.config import load_config
        from iagraph.train.processes import rank
        from iagraph.train.run import USER_ERRORS, resume, train
    except ImportError as error:
        sys.exit(f"error: training needs {error.name}: pip install 'iagraph[train]'; see scripts/doctor.py")

    keep_freed_memory()
    try:
        if arguments.resume is not None:
            folder = resume(arguments.resume, changes)
        else:
            folder = train(load_config(arguments.config, changes), into=arguments.into)
    except USER_ERRORS as error:
        sys.exit(f"error: {error}")
    if rank():  # one of several processes, the first of which tells
        return
    report = (folder / "report.md").read_text(encoding="utf-8")
    print(f"\n{report}\nAll of it is in {folder}")


if __name__ == "__main__":
    main()
