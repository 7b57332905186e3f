"""Torch layers that families share."""
