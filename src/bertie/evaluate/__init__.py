"""Scores and truth become metrics, baselines and a report. Knows arrays; knows no model."""
