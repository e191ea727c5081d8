"""Sizes of the generator. What the vocabulary and the sequence add is up to the tokenizer (`tasks.Layout`)."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """A Llama-style decoder.

    positions "learned": a vector for each place of the sequence, as published (a holistic token means something by its number).
    "rope": rotary, in halves as in Llama. dropout: on embedded tokens and on both residual branches.
    """

    name: str
    width: int
    layers: int
    heads: int
    hidden: int  # of the SwiGLU
    positions: Literal["learned", "rope"] = "learned"
    dropout: float = 0.1
    norm_eps: float = 1e-5
    rope_theta: float = 10_000.0

    def __post_init__(self) -> None:
        assert self.width % (2 * self.heads) == 0


def mini() -> GeneratorConfig:
    """4.8 M in the blocks, 6.9 M with a vocabulary of 4096: trains on CPU cores."""
    return GeneratorConfig(name="ar-mini", width=256, layers=6, heads=4, hidden=704)


def small() -> GeneratorConfig:
    """39 M in the blocks: trains on one GPU."""
    return GeneratorConfig(name="ar-small", width=512, layers=12, heads=8, hidden=1408)


def base() -> GeneratorConfig:
    """The published generator (LARP's llama-abs, as AVTok's): 632.0 M with 8192 codes and 1153 places."""
    return GeneratorConfig(name="ar-base", width=1280, layers=30, heads=20, hidden=3584)
