"""ONNX files from modules: export, the definitions of our operators, and graphs cut in stages."""
