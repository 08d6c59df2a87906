import sys

import pytest

from iagraph import cli


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs the command in this process; its exit status or message, and what it printed."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["iagraph", *map(str, words)])
        code = 0
        try:
            cli.main()
        except SystemExit as stopped:
            code = stopped.code
        return code, capsys.readouterr()

    return run
