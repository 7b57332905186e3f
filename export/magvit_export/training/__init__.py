"""Training classifiers on tokens."""
