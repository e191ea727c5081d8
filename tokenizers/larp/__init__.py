"""LARP, the video-only baseline: sizes (model), the official checkpoints (official), fast CPU layers (packed), the adapter (tokenizer)."""
