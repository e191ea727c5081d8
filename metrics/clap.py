"""CLAP score: how well a clip's sound goes with its class name in CLAP's space (Wu et al. 2023, arXiv 2211.06687)."""

import importlib.util
from pathlib import Path

import torch
from torch import Tensor

from avbench import weights
from avbench.metric import GENERATION, MetricInfo, MetricOptions, MetricUnavailable, PerClipMetric
from avbench.metrics.features import clap
from avbench.metrics.features.clap import as_text, load_vocabulary
from avbench.types import ClipBatch, Tokens

_SHA256 = (weights.CATALOG[clap.WEIGHTS].sha256 or "not pinned")[:10]


def _files() -> list[Path]:
    """Vocabulary and network. Raises MetricUnavailable that names all that are absent."""
    found, absent = [], []
    for name in (clap.VOCABULARY, clap.WEIGHTS):
        try:
            found.append(weights.path(name))
        except weights.WeightsUnavailable as error:
            absent.append(str(error))
    if absent:
        raise MetricUnavailable("; ".join(absent))
    return found


class ClapScore(PerClipMetric):
    """How well a clip's sound goes with its class name, by CLAP.

    Of the (generated) clip alone; clips without a label have no value.
    """

    info = MetricInfo(
        name="clap_score",
        unit="",
        higher_is_better=True,
        needs=frozenset({"audio"}),
        per_clip=True,
        tasks=GENERATION,
        sets=frozenset({"v2a"}),
        weights=(clap.WEIGHTS, clap.VOCABULARY),
        extra="clap",
        memory_bytes=614_373_520,
        protocol=(
            f"CLAP score, x1: mean cosine of laion_clap 630k-audioset-best embeddings (weights {_SHA256}, no fusion) of the clip's audio "
            "(48 kHz mono, torchaudio resample, 16 bits, repeated to 10 s and padded) and of its class name, underscores read as spaces, "
            "without a prompt; float32"
        ),
    )

    def __init__(self, options: MetricOptions) -> None:
        """Raises MetricUnavailable where labels, the extra or a file are absent, AvbenchError where a file holds something else."""
        if importlib.util.find_spec("transformers") is None:
            raise MetricUnavailable("the package transformers is not installed; run `pip install 'avbench[clap]'`")
        if options.classes is not None and not options.classes:
            raise MetricUnavailable("no clip of the split has a label, whose name the sound could be compared with")
        vocabulary, network = _files()
        self.vocabulary = load_vocabulary(vocabulary)
        self.device = torch.device(options.device)
        self.model = clap.load(network)
        torch.nn.Module.to(self.model, self.device)  # transformers wraps its own `to` in a way that mypy misreads
        self.texts: dict[str, Tensor] = {}

    def update(self, reference: ClipBatch, recon: ClipBatch, tokens: Tokens) -> Tensor:
        assert recon.audio is not None
        rows = torch.full((len(recon),), torch.nan)
        named = [clip for clip, label in enumerate(reference.labels) if label]
        if named:
            heard = clap.embed_audio(self.model, recon.audio[named].to(self.device), reference.sample_rate)
            read = torch.stack([self._text(str(reference.labels[clip])) for clip in named])
            rows[named] = (heard * read).sum(-1).cpu()
        return rows

    def _text(self, label: str) -> Tensor:
        if label not in self.texts:
            self.texts[label] = clap.embed_ids(self.model, self.vocabulary.encode(as_text(label)).ids)
        return self.texts[label]
