"""Judges opinions: metrics with intervals, agreement, plots and a report. `python -m evaluation.run --help`."""
