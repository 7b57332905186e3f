"""What runs a bundle's graphs: one protocol, and a folder a backend."""
