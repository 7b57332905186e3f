"""The command `magvit`. Each command is one module; each ends in an `Outcome`."""
