"""Files of trajectories as rows: text tables, JSON, Parquet, npz; nothing is repaired here."""
