"""Modules to ONNX files: export, the definitions of our operators, and graphs cut in stages."""
