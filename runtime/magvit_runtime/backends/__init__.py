"""Backends run a bundle's graphs: one protocol, and one folder per backend."""
