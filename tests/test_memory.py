import platform
import resource
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
import torch
from iagraph.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def step():
    for _ in range(3):
        tensors = [torch.ones(2**21) for _ in range(5)]  # 8 MB each
for _ in range(int(sys.argv[2])):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is asked to keep memory")
def test_freed_memory_is_used_again_without_new_pages():
    def new_pages(how, rounds):
        command = [sys.executable, "-c", SCRIPT, how, str(rounds)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    one_tensor = 2**23 // resource.getpagesize()
    assert new_pages("keep", rounds=4) < one_tensor / 10  # once the heap is as large as it must be
    assert new_pages("by default", rounds=1) > 3 * one_tensor
