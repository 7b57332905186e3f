"""The native backend's program on an NVIDIA GPU: convs of cuDNN and our own, and our own passes."""
