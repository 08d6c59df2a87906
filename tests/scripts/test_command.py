import io
import os
import runpy
import subprocess
import sys
import time
from pathlib import Path

import pytest

import iagraph
from iagraph import cli
from iagraph.cli import COMMANDS
from iagraph.files import RECIPES, recipe_file
from iagraph.train.config import load_config
from iagraph.yaml_config import ConfigError

ROOT = Path(__file__).parents[2]


def test_help_lists_every_command_quickly(command):
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "iagraph", "--help"], capture_output=True, text=True, check=True)
    assert time.perf_counter() - start < 2  # 0.1 s on an idle core; packages would take more
    assert all(f"    {name}" in done.stdout for name in COMMANDS)
    slow = {"torch", "numpy", "pydantic", "importlib.metadata"}
    loaded = f"import sys, iagraph.cli; print({slow} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(command, name):
    code, printed = command(name, "--help")
    assert code == 0
    assert printed.out.startswith(f"usage: iagraph {name}")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian", "qg"], "no command trian; did you mean train?"),
        (["train", "generate_qg"], "generate_qg is a recipe for iagraph generate"),
        (["generate", "qg", "--jets", "3", "--out", "x.h5"], "qg is a recipe for iagraph train"),
        (["study", "compare", "curve_qg"], "curve_qg is a recipe for iagraph study curve"),
        (
            ["train", "pretrained:qg"],
            "pretrained:qg is a trained model, not a recipe; to start from it: fine_tune.weights=pretrained:qg",
        ),
    ],
)
def test_what_belongs_to_another_command(command, words, message):
    code, printed = command(*words)
    assert code == 2
    assert printed.err.endswith(f"{message}\n")


@pytest.mark.parametrize("words", [[], ["trian"], ["train"], ["recipes", "--all"]])
def test_wrong_usage_ends_with_2(command, words):
    code, printed = command(*words)
    assert code == 2
    assert "error: " in printed.err


def test_version(command):
    assert command("--version")[1].out == f"iagraph {iagraph.__version__}\n"


def test_an_interruption_ends_with_130(command, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("iagraph.cli.doctor.main", interrupted)
    code, printed = command("doctor")
    assert (code, printed.err) == (130, "interrupted: nothing is lost\n")


def test_ctrl_c_before_training_ends_with_130(command, monkeypatch):
    from iagraph.train import run

    def interrupted(*_, **__):
        raise run.RunError("interrupted before the first epoch was over: there is no model") from SystemExit()

    monkeypatch.setattr(run, "train", interrupted)
    code, printed = command("train", "qg")
    assert (code, printed.err) == (130, "interrupted before the first epoch was over: there is no model\n")


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-8"])
def test_any_encoding_of_the_output(command, monkeypatch, encoding):
    printed = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr("iagraph.cli.doctor.main", lambda *_: print("γ"))
    monkeypatch.setattr(sys, "stdout", printed)
    monkeypatch.setattr(sys, "argv", ["iagraph", "doctor"])
    cli.main()
    printed.flush()
    assert printed.buffer.getvalue().decode(encoding) == ("γ\n" if encoding == "utf-8" else "\\u03b3\n")


@pytest.mark.parametrize("words", [["recipes"], ["recipes", "qg"]])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_is_no_longer_read(words, unbuffered):
    """As by ``| head``: the read end of the pipe is closed before anything is written."""
    command, pipe = [sys.executable, "-m", "iagraph", *words], subprocess.PIPE
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


def test_errors_are_told_even_if_output_is_no_longer_read():
    command, pipe = [sys.executable, "-m", "iagraph", "recipes", "qx"], subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == "error: qx: no such recipe; iagraph recipes lists them\n"
    assert process.returncode == 1


def test_other_pipes_that_break_are_no_secret(monkeypatch):
    def fail(words):
        raise BrokenPipeError(32, "Broken pipe", "worker")

    monkeypatch.setattr(cli, "_run", fail)
    with pytest.raises(BrokenPipeError, match="worker"):
        cli.main("recipes")


def test_scripts_run_the_commands(monkeypatch):
    called = []
    monkeypatch.setattr(cli, "main", called.append)
    scripts = sorted((ROOT / "scripts").glob("*.py"))
    for script in scripts:
        runpy.run_path(str(script), run_name="__main__")
    assert [name.partition("-")[0] for name in called] == [script.stem for script in scripts]
    assert set(called) == set(COMMANDS) - {"predict", "recipes"}


class TestRecipes:
    def test_equal_the_files_of_configs(self, command):
        _, printed = command("recipes")
        names = [path.stem for path in sorted((ROOT / "configs").glob("*.yaml"))]
        names += [f"pretrained:{path.name}" for path in sorted((ROOT / "iagraph" / "pretrained").iterdir())]
        assert [line.partition("  ")[0].split()[-1] for line in printed.out.splitlines()] == names
        assert command("recipes", "qg")[1].out == (ROOT / "configs" / "qg.yaml").read_text()
        assert command("recipes", "gq")[0] == "error: gq: no such recipe; iagraph recipes lists them"

    def test_a_folder_is_no_recipe(self, command, tmp_path):
        code, _ = command("recipes", tmp_path)
        assert code == f"error: {tmp_path}: cannot read or write this file (Is a directory); check folder and name"

    def test_files_take_precedence_over_recipes(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "qg").mkdir()
        assert recipe_file("qg") == RECIPES / "qg.yaml"
        (tmp_path / "qg_lite").write_text("name: mine")
        assert recipe_file("qg_lite") == Path("qg_lite")
        assert recipe_file("./qg") == Path("qg")
        with pytest.raises(ConfigError, match=r"^qg_ligt: no such file; did you mean the recipe qg_lite\?"):
            load_config("qg_ligt")


class TestExtends:
    @pytest.fixture
    def write(self, tmp_path):
        def write(text, name="mine.yaml"):
            (tmp_path / name).write_text(text)
            return tmp_path / name

        return write

    def test_keys_of_sections_are_replaced_one_by_one(self, write):
        text = "extends: qg_lite\nname: mine\ndata: {train: [my.h5], classes: {a: [quark], b: [gluon]}}\n"
        mine, base = load_config(write(text), ["train.epochs=3"]), load_config("qg_lite")
        assert (mine.name, mine.data.train, mine.train.epochs) == ("mine", ["my.h5"], 3)
        assert mine.model == base.model
        assert mine.data == base.data.model_copy(update={"train": ["my.h5"], "classes": mine.data.classes})

    def test_other_models_have_their_own_keys(self, write):
        other = load_config("qg_particlenet").model
        text = f"extends: qg\ndata: {{pair_features: null}}\nmodel: {other.model_dump_json()}\n"
        assert load_config(write(text)).model == other

    @pytest.mark.parametrize(("file", "name"), [("mine.yaml", "mine"), ("_my recipe.yaml", "my_recipe")])
    def test_a_run_without_a_name_has_that_of_its_file(self, write, file, name):
        assert load_config(write("extends: qg\n", file)).name == name

    def test_file_in_the_same_folder(self, write, monkeypatch):
        write("extends: base.yaml\nname: mine\n")
        base = write((ROOT / "configs" / "qg.yaml").read_text(), "base.yaml")
        monkeypatch.chdir("/")
        assert load_config(base.with_name("mine.yaml")) == load_config(base, ["name=mine"])

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("extends: [qg]", r"mine.yaml: 'extends' should name a recipe, for example qg_lite, found \[\"qg\"\]"),
            ("extends: qg_lit", r"extends: .*qg_lit: no such file; did you mean the recipe qg_lite\?"),
            ("extends: mine.yaml", r"extends mine.yaml, which extends mine.yaml: extend that one, or join the two"),
            ("extends: qg\nmodel: {gate_fraction: 0.1}", r"mine.yaml, which extends qg: unknown key 'model.gate_fr"),
        ],
    )
    def test_mistakes(self, write, text, message):
        with pytest.raises(ConfigError, match=message):
            load_config(write(text))
