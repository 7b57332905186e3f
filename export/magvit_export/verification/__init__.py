"""What `magvit verify` compares with: PyTorch, and the modules at which errors arise."""
