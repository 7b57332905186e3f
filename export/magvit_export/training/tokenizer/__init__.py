"""Training the tokenizer itself: encoder, lookup-free quantizer and decoder on drawn trajectories."""
