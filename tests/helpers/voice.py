"""A sound with the pace and the spectrum of speech, made by rule: syllables of voiced harmonics with pauses between."""

import numpy as np


def voice(seconds: float, rate: int = 16_000, *, pitch: float = 120.0, seed: int = 0) -> np.ndarray:
    """(N,) in [-1, 1]: a syllable of 0.25 s every 0.35 s, pitch and formants that move; a pause of 0.3 s after every third."""
    rng, t = np.random.default_rng(seed), np.arange(round(seconds * rate)) / rate
    sound, start, count = np.zeros_like(t), 0.1, 0
    while start < seconds:
        inside = (t >= start) & (t < start + 0.25)
        local = t[inside] - start
        formants = rng.uniform((300, 900, 2200), (800, 1800, 3000))
        for harmonic in range(1, 30):
            frequency = pitch * harmonic * (1 + 0.1 * local)
            gain = np.exp(-np.square((pitch * harmonic - formants) / 200)).sum() + 0.02
            sound[inside] += gain / harmonic**0.5 * np.sin(2 * np.pi * frequency * local) * np.sin(np.pi * local / 0.25)
        count += 1
        start += 0.35 + (0.3 if count % 3 == 0 else 0.0)
    return 0.5 * sound / np.abs(sound).max() + 1e-4 * rng.standard_normal(len(t))
