from pathlib import Path

import pytest

from iagraph.files import user_files, user_path


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_home_folders_are_expanded_and_the_rest_is_left(home):
    assert user_path("~") == home
    assert user_path("~/runs/a") == home / "runs/a"
    assert user_path(Path("~/runs")) == home / "runs"
    assert user_path("~root") == Path("~root").expanduser() != Path("~root")
    for name in ("runs/~/a", "a~", "~nobody-of-this-name/a", "/b", "sample:qg", "$HOME/a"):
        assert user_path(name) == Path(name)


def test_patterns_become_files_in_natural_order(home):
    names = ["part_10.h5", "part_2.h5", "part_1.h5", "other.txt", "deep/er/part_3.h5"]
    for name in names:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).touch()
    (home / "part_0.h5").mkdir()  # a folder is no file
    found = [str(home / f"part_{number}.h5") for number in (1, 2, 10)]
    assert user_files(["~/part_*.h5"]) == found
    assert user_files(["~/part_[12].h5", "~/other.txt"]) == [*found[:2], str(home / "other.txt")]
    assert user_files([home / "**" / "part_?.h5"]) == [str(home / "deep/er/part_3.h5"), *found[:2]]


def test_names_that_are_no_patterns_are_left(home):
    (home / "jets[1].h5").touch()
    for name in ("sample:qg", "missing.h5", "./missing.h5", "missing[1].h5"):
        assert user_files([name]) == [name]
    assert user_files(["~/jets[1].h5"]) == [f"{home}/jets[1].h5"]


def test_a_pattern_without_files_is_named(home):
    with pytest.raises(FileNotFoundError, match=r"^~/none_\*\.h5: no file matches"):
        user_files(["~/none_*.h5"])
