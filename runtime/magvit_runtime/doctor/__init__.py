"""Examines a machine and a bundle's engines."""
