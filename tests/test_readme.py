import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_examples_run(number, tmp_path, monkeypatch):
    names = {}
    monkeypatch.chdir(tmp_path)
    exec(EXAMPLES[number], names)
    assert names["alpha"].shape == (4, 4)


def test_there_are_examples():
    assert len(EXAMPLES) == 1


def test_files_named_by_the_readme_exist():
    names = re.findall(r"`((?:iagraph|configs|scripts)/[\w/.]*)`", README)
    names += [link for link in re.findall(r"\]\(([^)]*)\)", README) if "://" not in link]
    assert names
    assert not [name for name in names if not (ROOT / name).exists()]
