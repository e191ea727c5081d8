"""Generation from tokens: one autoregressive model over the tokens of any tokenizer.

model.py       the transformer and its sizes, with a key-value cache
tasks.py       a2v, v2a, av: what a sequence is made of
space.py       tokens <-> ids of one vocabulary, for unified and dual-branch tokenizers
tokens.py      a split's tokens, encoded once and kept
sampling.py    how likely tokens are, and tokens sampled
checkpoint.py  a trained generator as a folder that remembers its tokenizer
generate.py    condition of a clip -> tokens -> clip, resumable
"""
