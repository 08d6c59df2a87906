"""Measurements of speed and memory, side by side in one run: what ``scripts/benchmark.py`` calls."""
