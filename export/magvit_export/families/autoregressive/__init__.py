"""Open-MAGVIT2's autoregressive models: from a class to the token ids of an image."""
