"""WavTokenizer: a single-codebook audio tokenizer. tokenizer.py is the way in."""
