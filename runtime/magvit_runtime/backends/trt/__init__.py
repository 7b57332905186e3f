"""TensorRT and TensorRT-RTX: a bundle's engines."""
