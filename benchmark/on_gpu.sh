#!/usr/bin/env bash
# Says what this machine is, then tries the library on its GPU: bash benchmark/on_gpu.sh --out FOLDER [...]
set -u
export PYTHONUNBUFFERED=1
nvidia-smi --query-gpu=name,memory.total,driver_version,clocks.sm,power.limit --format=csv || true
python3 - <<'PYTHON'
import importlib.metadata as packages, os, platform
import torch

print(f"Python {platform.python_version()}, {os.cpu_count()} processors, CUDA {torch.version.cuda}")
for name in ("torch", "triton", "torch-geometric", "lightning", "numpy", "h5py", "pydantic", "weaver-core", "iagraph"):
    try:
        print(name, packages.version(name))
    except packages.PackageNotFoundError:
        print(name, "missing")
PYTHON
exec python3 "$(dirname "$0")/on_gpu.py" "$@"
