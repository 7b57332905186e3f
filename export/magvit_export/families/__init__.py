"""Model families: their architecture, and what `magvit export` can export of each."""
