"""Runs over many files that write a folder, and go on after whatever stopped them."""
