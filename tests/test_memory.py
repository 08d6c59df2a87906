import platform
import resource
import subprocess
import sys

import pytest

SCRIPT = """
import resource
import torch
from iagraph.memory import tune_memory
def step():
    for _ in range(3):
        tensors = [torch.ones(2**21) for _ in range(5)]  # 8 MB each
def new_pages(rounds):
    for _ in range(rounds):
        step()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
by_default = new_pages(1)
assert tune_memory()
print(by_default, new_pages(4))  # once the heap is as large as it must be
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is asked to keep memory")
def test_freed_memory_is_reused_without_page_faults():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    by_default, kept = map(int, done.stdout.split())
    one_tensor = 2**23 // resource.getpagesize()
    assert kept < one_tensor / 10
    assert by_default > 3 * one_tensor


RETURN = """
import torch
from iagraph.memory import memory_in_use, return_freed_memory, tune_memory
tune_memory()
tensors = [torch.ones(2**20) for _ in range(50)]  # 4 MB each
filled = memory_in_use()
del tensors
kept = memory_in_use()
return_freed_memory()
print(filled - kept, filled - memory_in_use())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps freed memory")
def test_freed_memory_is_returned_on_request():
    done = subprocess.run([sys.executable, "-c", RETURN], capture_output=True, text=True, check=True)
    by_itself, on_request = map(float, done.stdout.split())
    assert by_itself < 20
    assert on_request > 180
