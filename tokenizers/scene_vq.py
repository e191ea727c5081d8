"""The linear control that knows scenes: one token for the clip's nearest training scene, PCA and k-means of what that leaves.

`scene-vq@256x12`: one scene token and 256 residual tokens of 12 bits; `scene-vq@4x16x16x12@96x12` names another patch and the audio's
tokens, as in `pca-vq`; `scene-vq@16s`: sixteen scene tokens, one a frame (or 2, 4, 8, for as many equal spans). Once the scene is gone,
patches of one frame and 32x32 pixels are the best 256 (`python benchmarks/scene.py shapes`); the sound is whole mel columns. Fitted on
first use and kept in the cache.
"""

import math
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from avbench.errors import AvbenchError, UsageError
from avbench.nn import linear_vq
from avbench.nn.patches import VideoPatch, mel_to_patches
from avbench.nn.scenes import Bank, over_frames, residual_patches, span_frames
from avbench.paths import cache_root
from avbench.tokenizer import TokenizerOptions
from avbench.tokenizers.banks import TRAIN_CLIPS, TRAIN_SPLIT, bank_file, load_bank, source, training_clips
from avbench.tokenizers.edges import need_video
from avbench.tokenizers.pca_vq import PcaVq
from avbench.tokenizers.pca_vq_state import PcaVqConfig, PcaVqState, load, pad_mel, parse_config, save
from avbench.types import ClipBatch, Tokens
from avbench.weights import sha256_of

# Residual tokens of a 16x128x128 clip -> patch: frames, height, width.
VIDEO_PATCHES: dict[int, VideoPatch] = {
    64: (1, 64, 64),
    128: (1, 32, 64),
    256: (1, 32, 32),
    512: (1, 16, 32),
    1024: (1, 16, 16),
    2048: (1, 8, 16),
}
AUDIO_TOKENS = 128
SCENES = {"1s": 1, "2s": 2, "4s": 4, "8s": 8, "16s": 16}
# Residuals are fitted to the last episode of each game against scenes of the others: a clip whose own scene is in the bank leaves less.
BANK_CLIPS = 6_060
FIT_VERSION = 1  # raise it when `fit` changes


class SceneVq(PcaVq):
    """Streams "scene", "video" (its residual) and "audio"."""

    name = "scene-vq"

    def __init__(self, options: TokenizerOptions) -> None:
        """Variants: see above. A checkpoint is a folder with scenes.safetensors (`banks.save_bank`) and codes.safetensors (`save`)."""
        if options.checkpoint is None:
            num_scenes, config = parse_variants(options.variants)
            scenes, codes = bank_file("scenes"), fitted_file(config, num_scenes, options.seed)
        elif options.variants:
            raise UsageError("scene-vq: a fitted folder says itself how many tokens it makes; give --checkpoint or a variant, not both")
        else:
            scenes, codes = options.checkpoint / "scenes.safetensors", options.checkpoint / "codes.safetensors"
        bank, state = load_bank(scenes, "scenes"), load(codes)
        scenes_hash = sha256_of(scenes)
        if state.scenes != scenes_hash or bank.items.shape[2:] != state.shape[1:]:
            raise AvbenchError(f"{codes} was not fitted for the scenes of {scenes}; remove it and it is fitted again")
        self._hold(state, f"scene-vq@{_variant(state.config, state.num_scenes)}", f"{scenes_hash[:8]}-{sha256_of(codes)[:8]}", options)
        self.bank = bank.to(options.device)
        self.info = replace(self.info, parameters=self.info.parameters + bank.items.numel())

    def encode(self, batch: ClipBatch) -> Tokens:
        """Streams "scene" (B, 1, scenes), "video" and "audio" (B, 1, L). Raises AvbenchError for clips of another size."""
        video = need_video(batch, self.name)
        if (video.shape[1], *video.shape[3:]) != self.state.shape:
            return super().encode(batch)  # which refuses them
        scenes = _nearest_scenes(self.bank, video, self.state.num_scenes)
        rest = super().encode(replace(batch, video=video.float() - self._shown(scenes)))
        codes = {"scene": scenes[:, None], **rest.codes}
        return replace(rest, codes=codes, vocab_sizes={"scene": len(self.bank), **rest.vocab_sizes})

    def _decode_video(self, tokens: Tokens) -> Tensor:
        codes = tokens.codes["scene"]
        if codes.shape[1:] != (1, self.state.num_scenes):
            raise AvbenchError(f"damaged payload: scene tokens of shape {tuple(codes.shape)}; {self.state.num_scenes} a clip are needed")
        return self._shown(codes[:, 0].to(self.bank.items.device)) + super()._decode_video(tokens)

    def _shown(self, codes: Tensor) -> Tensor:
        """Codes (B, scenes) -> video of scenes alone (B, T, 3, H, W)."""
        pictures = self.bank.decode(codes.flatten()).unflatten(0, codes.shape)
        return over_frames(pictures, self.state.shape[0])


def parse_variants(variants: tuple[str, ...]) -> tuple[int, PcaVqConfig]:
    """("16s", "256x12", "128x12") -> number of scenes, patches and bits; without the first, one scene. Raises UsageError."""
    scenes, rest = (variants[0], variants[1:]) if variants and variants[0].endswith("s") else ("1s", variants)
    if scenes not in SCENES:
        raise UsageError(f"scene-vq: {scenes} is no number of scenes; there are {', '.join(SCENES)}; for example scene-vq@16s@256x12")
    return SCENES[scenes], parse_config(rest, name="scene-vq", video_patches=VIDEO_PATCHES, audio_tokens=AUDIO_TOKENS)


def _variant(config: PcaVqConfig, num_scenes: int) -> str:
    return (f"{num_scenes}s@" if num_scenes > 1 else "") + config.variant(VIDEO_PATCHES)


def fitted_file(config: PcaVqConfig, num_scenes: int, seed: int) -> Path:
    """The residuals' codes; fits them where they are not in the cache."""
    scenes = bank_file("scenes")
    text, scenes_hash = _variant(config, num_scenes), sha256_of(scenes)
    file = cache_root() / "fitted" / f"scene-vq-{text}-seed{seed}-fit{FIT_VERSION}-{scenes_hash[:12]}.safetensors"
    if not file.exists():
        print(f"fitting scene-vq@{text} to {TRAIN_CLIPS - BANK_CLIPS} clips of {TRAIN_SPLIT}, once (a few minutes)", file=sys.stderr)
        others = Bank(items=load_bank(scenes, "scenes").items[:BANK_CLIPS])
        clips = training_clips(BANK_CLIPS, TRAIN_CLIPS)
        state = fit(clips, TRAIN_CLIPS - BANK_CLIPS, others, config, seed, num_scenes=num_scenes)
        save(replace(state, scenes=scenes_hash, trained_on=source()), file)
    return file


def fit(
    batches: Iterable[tuple[Tensor, Tensor]], num_clips: int, bank: Bank, config: PcaVqConfig, seed: int, *, num_scenes: int = 1
) -> PcaVqState:
    """PCA and codebooks of what the bank's scenes leave of `num_clips` clips, uint8 (B, T, 3, H, W), and of their log-mels (B, 80, F).

    Bounded memory: of each clip as many patches are kept, at random, as fill k-means' sample together.
    """
    generator = torch.Generator().manual_seed(seed)
    keep = math.ceil(linear_vq.KMEANS_PATCHES / num_clips)
    video: list[Tensor] = []
    audio: list[Tensor] = []
    shape = (0, 0, 0)
    for clips, mels in batches:
        scenes = bank.items[_nearest_scenes(bank, clips, num_scenes)]
        video += _some(residual_patches(clips, scenes, config.video_patch), keep, generator)
        audio += _some(mel_to_patches(pad_mel(mels, config.audio_patch), config.audio_patch), keep, generator)
        shape = (clips.shape[1], clips.shape[3], clips.shape[4])
    if not video:
        raise AvbenchError("scene-vq: no clips to fit to")
    return PcaVqState(
        config=config,
        shape=shape,
        trained_on=f"clips of the user ({len(video)} clips)",
        video=linear_vq.fit(torch.cat(video), 1 / 255, 2**config.video_bits, seed),
        audio=linear_vq.fit(torch.cat(audio), 1.0, 2**config.audio_bits, seed),
        num_scenes=num_scenes,
    )


def _nearest_scenes(bank: Bank, video: Tensor, num_scenes: int) -> Tensor:
    """int64 (B, scenes): the entry nearest to the mean frame of each span."""
    frames = span_frames(video, num_scenes)
    return bank.encode(frames.flatten(0, 1)).unflatten(0, (-1, num_scenes))


def _some(patches: Tensor, keep: int, generator: torch.Generator) -> Iterator[Tensor]:
    """At most `keep` patches of each clip (L, D) of patches (B, L, D)."""
    for clip in patches:
        yield clip[torch.randperm(len(clip), generator=generator)[:keep]]
