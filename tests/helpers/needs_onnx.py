"""The pytest mark of tests that need the packages of the extra `export`."""

from importlib.util import find_spec

import pytest

needs_onnx = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("onnx", "onnxruntime", "onnxscript")),
    reason="exported models need pip install 'iagraph[export]'",
)
