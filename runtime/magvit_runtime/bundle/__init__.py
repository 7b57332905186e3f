"""The bundle: manifest, files, digests, engines' sidecars, stamps and times."""
