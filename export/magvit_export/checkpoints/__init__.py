"""Weights: from files of any container, from the hub, or generated from key names."""
