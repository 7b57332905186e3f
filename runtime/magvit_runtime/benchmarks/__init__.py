"""Measures how fast a bundle runs here, with intervals and agreement beside every figure."""
