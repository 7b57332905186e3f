"""A bundle on NVIDIA's Triton Inference Server: its model repository, and what runs in it."""
