"""Compares the outputs of a bundle's graphs and engines with a reference."""
