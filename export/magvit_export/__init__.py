"""The torch side of magvit-runtime: checkpoints to ONNX bundles, training, and the demo."""
