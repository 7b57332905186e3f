"""Compares what a bundle's graphs and engines give with a reference."""
