"""Real clips on every machine: named splits, prepared once into shards, read in batches."""
