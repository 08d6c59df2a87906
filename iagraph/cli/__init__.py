"""The command ``iagraph``: each subcommand is a module here, imported when called.

In each module, ``main(parser, words)`` adds arguments, parses them and does the work; the module docstring is the text
of ``--help``, ``EXTRA`` the extra whose packages it needs, and ``INTERRUPTED`` the message on Ctrl-C.

Exit statuses: 0; 1 for errors that the user can fix, with a message on standard error, and for output that is no longer
read (``| head``); 2 for wrong arguments; 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import difflib
import os
import select
import sys
from importlib import import_module

from iagraph import __version__
from iagraph.cli.arguments import escape_unprintable

COMMANDS = {
    "train": "train and evaluate a tagger",
    "evaluate": "evaluate a trained tagger again, also on other jets",
    "predict": "write the scores of jets in files",
    "study": "compare, prune or examine models: tables, figures, a report",
    "export": "write a trained tagger as ONNX or for torch.export",
    "recipes": "list or show the recipes and trained models of the package",
    "download": "download a published set of jets",
    "convert": "convert files of jets to a jet store",
    "generate": "generate jets with Pythia8",
    "compare-jets": "compare the jets of two files",
    "benchmark": "measure speed and memory (in a clone of the repository)",
    "doctor": "check the installation",
}


def main(command: str | None = None) -> None:
    """Run a subcommand; exit on errors.

    Args:
        command: the subcommand; None reads it from the command line.
    """
    escape_unprintable()
    try:
        _run(sys.argv[1:] if command is None else [command, *sys.argv[1:]])
        print(end="", flush=True)  # a closed pipe is noticed here rather than at exit
    except SystemExit:
        _drop_unread()
        raise
    except BrokenPipeError:
        if not _drop_unread():  # another pipe
            raise
        sys.exit(1)


def _drop_unread() -> bool:
    """Whether nobody reads standard output any more, as after ``| head``; the rest then goes nowhere."""
    output = sys.stdout
    if output is not sys.__stdout__ or output is None or not hasattr(select, "poll"):  # replaced, or Windows
        return False
    poll = select.poll()
    poll.register(output.fileno(), 0)
    unread = any(event & select.POLLERR for _, event in poll.poll(0))
    if unread:
        os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())
    return unread


def _run(words: list[str]) -> None:
    """Call the module of a subcommand; exit on errors."""
    if not words or words[0] not in COMMANDS:
        _refuse(words[:1])
    name, *words = words
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog=f"iagraph {name}", formatter_class=formatter)
    interrupted = "nothing is lost"
    try:
        module = import_module(f"iagraph.cli.{name.replace('-', '_')}")
        parser.description, interrupted = module.__doc__, getattr(module, "INTERRUPTED", interrupted)
        module.main(parser, words)
    except KeyboardInterrupt as error:
        text = str(error) or interrupted
        print(text if text.startswith("interrupted") else f"interrupted: {text}", file=sys.stderr)
        sys.exit(130)
    except ImportError as error:
        if "pip install" in str(error):
            sys.exit(f"error: {error}")
        if error.name is None:
            raise
        extra = f"[{module.EXTRA}]" if hasattr(module, "EXTRA") else ""
        sys.exit(f"error: iagraph {name} needs {error.name}: pip install 'iagraph{extra}'; see iagraph doctor")


def _refuse(words: list[str]) -> None:
    """Answer ``--help`` and ``--version``, or report an error; exit."""
    parser = argparse.ArgumentParser(prog="iagraph", description="Jet tagging as a graph problem.")
    parser.add_argument(
        "--version", action="version", version=f"iagraph {__version__}", help="show the version and exit"
    )
    commands = parser.add_subparsers(metavar="COMMAND", dest="command", title="commands")
    for name, text in COMMANDS.items():
        commands.add_parser(name, help=text)
    if words and (near := difflib.get_close_matches(words[0], COMMANDS, n=1)):
        parser.error(f"no command {words[0]}; did you mean {near[0]}?")
    parser.epilog = "iagraph COMMAND --help explains a command."
    parser.parse_args(words)
    parser.error(f"name a COMMAND: {', '.join(COMMANDS)}")
