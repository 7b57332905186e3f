"""CLIP: features of images."""
