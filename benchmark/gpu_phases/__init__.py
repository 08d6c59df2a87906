"""Phases of ``on_gpu.py``, one file each; a phase is a function of a ``Plan`` and its ``Results``."""
