"""What ``on_gpu.py`` does, a file for each phase; each phase is a function of a ``Plan`` and its ``Results``."""
