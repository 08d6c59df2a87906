import re

import pytest

from iagraph.data.records import JETCLASS, QUARK_GLUON, TOP

EVERY = [file for parts in (TOP, QUARK_GLUON, JETCLASS) for files in parts.values() for file in files]


def test_records_have_the_published_number_of_different_files():
    assert {part: len(files) for part, files in TOP.items()} == {"train": 1, "val": 1, "test": 1}
    assert {part: len(files) for part, files in JETCLASS.items()} == {"train_100M": 10, "val_5M": 1, "test_20M": 1}
    assert {part: len(files) for part, files in QUARK_GLUON.items()} == dict.fromkeys(
        ["pythia", "pythia_bc", "herwig", "herwig_bc"], 20
    )
    assert len({file.checksum for file in EVERY}) == len({(file.record, file.name) for file in EVERY}) == 95


@pytest.mark.parametrize("file", EVERY, ids=lambda file: file.name)
def test_files_have_checksums_and_https_addresses(file):
    assert re.fullmatch(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", file.checksum)
    assert file.url == f"https://zenodo.org/api/records/{file.record}/files/{file.name}/content"
    assert re.fullmatch(r"[\w.]+", file.name)  # needs no quoting in an address, and stays in its folder


def test_only_the_first_pythia_file_has_no_number():
    names = {part: [file.name for file in files] for part, files in QUARK_GLUON.items()}
    assert names["pythia"] == ["QG_jets.npz", *(f"QG_jets_{number}.npz" for number in range(1, 20))]
    for part, stem in [("pythia_bc", "withbc"), ("herwig", "herwig"), ("herwig_bc", "herwig_withbc")]:
        assert names[part] == [f"QG_jets_{stem}_{number}.npz" for number in range(20)]
    records = {part: {file.record for file in files} for part, files in QUARK_GLUON.items()}
    assert records == {"pythia": {3164691}, "pythia_bc": {3164691}, "herwig": {3066475}, "herwig_bc": {3066475}}


def test_checksums_belong_to_their_files():
    # Single files as sources other than this module's print them: an earlier release of EnergyFlow for the first file,
    # scripts that name file and checksum on one line for the others.
    first = "sha256:3f27a02eab06e8b83ccc9d25638021e6e24c9361341730961f9d560dee12c257"
    assert QUARK_GLUON["pythia"][0].checksum == first
    assert JETCLASS["train_100M"][0].name == "JetClass_Pythia_train_100M_part0.tar"
    assert JETCLASS["train_100M"][3].checksum == "md5:47348fc8985319fa4806da87500482fa"
    assert JETCLASS["train_100M"][9].name == "JetClass_Pythia_train_100M_part9.tar"
    assert TOP["test"][0][1:] == ("test.h5", "md5:13163479dee30a5fe546e4536cc3d04d", 347_849_376)
