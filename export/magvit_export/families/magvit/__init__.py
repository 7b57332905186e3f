"""Open-MAGVIT2's tokenizers: encoder, lookup-free quantizer and decoder, for video and images."""
