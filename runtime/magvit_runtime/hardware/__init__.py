"""This machine: its CPU, its GPUs, and what is installed on it."""
