from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parents[2] / "scripts").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_prints_in_any_encoding(script):
    main = script.read_text(encoding="utf-8").partition("\ndef main() -> None:\n")[2]
    assert "escape_unprintable()" in main.partition("\ndef ")[0]
