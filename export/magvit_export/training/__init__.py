"""Training on tokens, and the data that ships with the package."""
