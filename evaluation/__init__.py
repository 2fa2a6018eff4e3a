"""Judges opinions: metrics with intervals, plots and a report. Try `python -m evaluation.run --help`."""
