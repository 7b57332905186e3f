"""The Hugging Face hub: addresses of bundles there, how they are fetched, and what it refuses."""
