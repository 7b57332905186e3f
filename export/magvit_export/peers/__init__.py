"""Other ways to run a bundle's encoder, for `magvit bench --peers`."""
