"""The torch side of `magvit verify`: PyTorch as reference, and where errors arise."""
