"""Figures of reconstructed clips that a feature network takes: LPIPS, rFID and rFVD."""
