"""Training the tokenizer itself, encoder and decoder, on drawn trajectories."""
