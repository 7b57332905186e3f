"""Measuring how fast a bundle runs here, in a way that others can believe."""
