"""EnCodec: the tokenizer, its checkpoints, and its training."""
