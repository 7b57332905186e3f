"""Clips and where they come from: arrays, videos, trajectories."""
