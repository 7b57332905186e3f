"""Bundles onto the Hugging Face hub: whose weights they hold, their model card, the upload."""
