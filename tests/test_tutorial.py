"""The tutorial, from the first command to the last, as a reader types it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
BLOCKS = re.findall(
    r"```(python|bash|text)\n(.*?)```", TUTORIAL, flags=re.DOTALL
)  # those of `sh` need a network or hours


@pytest.mark.slow
def test_commands_run_and_print_the_shown_numbers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    names, said, printed = {}, "", []
    for language, text in BLOCKS:
        if language == "python":
            exec(compile(text, "docs/tutorial.md", "exec"), names)
        elif language == "bash":
            command = ["bash", "-ec", text]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{text}\n{done.stderr[-3000:]}"
            said += done.stdout
        else:
            printed.append(text)
    assert all(
        line in said for line in printed[0].splitlines()
    )  # whole numbers and means of momenta: the same anywhere
    auc = re.search(r"^\| iaformer \| \S+ \+- \S+ \| (\S+)", said, flags=re.MULTILINE)
    assert abs(float(auc.group(1)) - 0.878) < 0.01  # rounding of other machines moves it by less
    assert (tmp_path / "studies" / "prune-tutorial-001" / "table.md").exists()
    assert names["tagger"].probabilities(names["few"]).shape == (5, 2)


def test_the_tutorial_has_commands_and_the_printed_auc():
    assert [language for language, _ in BLOCKS].count("bash") == 6
    assert "| iaformer | 0.8010 +- 0.0052 | 0.8779 +- 0.0044 |" in TUTORIAL
