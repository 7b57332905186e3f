"""Model families: what each is made of, and what `magvit export` can export of it."""
