"""Studies of many runs, each with its tables and figures: what ``scripts/study.py`` calls."""
