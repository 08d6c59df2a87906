import pytest

from iagraph.cli.process import usable_threads
from iagraph.machine import usable_cores


@pytest.mark.parametrize(
    ("wanted", "cores", "processors", "busy", "expected"),
    [
        (2, 2, 2, 0.1, 2),  # idle
        (2, 2, 2, 0.9, 1),  # one other process
        (2, 2, 2, 1.9, 1),
        (8, 2.5, 64, 3.0, 2),  # a share of a large machine
        (16, 16, 16, 12.6, 3),
        (1, 4, 4, 0.0, 1),  # as many as PyTorch would use
    ],
)
def test_threads_fit_into_the_free_cores(wanted, cores, processors, busy, expected):
    assert usable_threads(wanted, cores, processors, busy) == expected


def test_control_groups_limit_the_cores(tmp_path):
    limit = tmp_path / "cpu.max"
    everything = usable_cores(limit)
    assert everything == int(everything) >= 1
    limit.write_text("50000 100000\n")
    assert usable_cores(limit) == 0.5
    limit.write_text("max 100000\n")
    assert usable_cores(limit) == everything
