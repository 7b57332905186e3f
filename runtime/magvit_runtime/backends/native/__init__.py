"""The native backend: an encoder's ONNX graph as a short program over operators of our own.

`program` says what is computed. `lowering` reads it from the bundle's graph. One executor per
device runs it. So no model is defined twice.
"""
