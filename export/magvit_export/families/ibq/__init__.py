"""IBQ's image tokenizers: a VQGAN with attention, and a codebook that is searched by products."""
