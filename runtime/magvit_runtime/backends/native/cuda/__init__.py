"""The native backend's program on an NVIDIA GPU: cuDNN's convs and our own passes."""
