"""The native backend: an encoder's ONNX graph as a short program over operators of our own.

`program` says what is computed, `lowering` reads it from the bundle's graph, and one executor a
device runs it: there is no second definition of any model.
"""
