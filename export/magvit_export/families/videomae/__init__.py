"""VideoMAE: features of clips."""
