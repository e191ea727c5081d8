"""Feature networks of the distribution metrics, and the cache of reference features."""
