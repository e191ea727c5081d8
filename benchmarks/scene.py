"""What one token that names a scene, and linear codes of what it leaves, paint and sound like: `python benchmarks/scene.py [TABLE ...]`.

Tables: pictures, frames, shapes, sound (default: all; a quarter of an hour of one core, 2 GB). On the 101 clips of arcade-mini, nothing
trained; each figure stands beside the one that was first measured, which led to `nearest-train` and `scene-vq`. Those controls use all
7,070 training clips; here the bank is the first 6,144, and residuals are fitted to the next 896, as at first. A part of what residuals
and sounds gain on the first figures, and their lower entropy, is where codebooks start: at k-means++ here, at random points then.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial

import torch
from tabulate import tabulate
from torch import Tensor

from avbench.data import splits
from avbench.metrics.lpips import lpips
from avbench.metrics.motion import psnr_motion
from avbench.metrics.mr_stft import mr_stft
from avbench.metrics.psnr import CAP_DB, psnr
from avbench.nn import linear_vq
from avbench.nn.kmeans import kmeans, nearest
from avbench.nn.linear_vq import LinearVq, pca_of_pictures
from avbench.nn.mel import NUM_MELS, log_mel
from avbench.nn.patches import MelPatch, VideoPatch, mel_to_patches, patches_to_mel, patches_to_video
from avbench.nn.scenes import Bank, mean_frames, over_frames, residual_patches, span_frames, to_bytes
from avbench.registry import load_tokenizer
from avbench.tokenizers.banks import bank_file, load_bank, training_clips
from avbench.tokenizers.vocoders import load_vocoder
from avbench.types import ClipBatch

BANK_CLIPS, RESIDUAL_CLIPS, PCA_CLIPS = 6_144, 896, 4_040
VOCAB = 4_096  # entries of every codebook here: 12 bits
SHAPES: dict[VideoPatch, tuple[float, float, float]] = {  # each 256 tokens; PSNR, PSNR of moving pixels, entropy, as first measured
    (16, 8, 8): (28.61, 13.94, 4.7),
    (8, 8, 16): (28.78, 14.17, 5.3),
    (4, 16, 16): (28.99, 14.53, 6.2),
    (2, 16, 32): (29.18, 14.84, 7.2),
    (1, 32, 32): (29.37, 15.18, 8.3),
}
DIMENSIONS = {32: 20.3, 64: 24.0, 128: 26.7, 256: 27.3, 512: 27.7}
PRODUCT_TOKENS = {16: 23.5, 32: 26.6, 64: 27.2, 96: 27.5}
DIMENSIONS_A_TOKEN = 4
PATCH: VideoPatch = (8, 8, 16)  # of the table of pictures


@dataclass(kw_only=True)
class Table:
    """Rows of measured and first figures, printed as they come."""

    title: str
    columns: tuple[str, ...]
    rows: list[list[str]] = field(default_factory=list)

    def add(self, name: str, measured: tuple[float, ...], stated: tuple[float | None, ...]) -> None:
        """A row; None: nothing was stated, or nothing is measured (NaN)."""
        cells = []
        for value, first in zip(measured, stated, strict=True):
            text = "" if value != value else f"{value:.3f}" if value < 3 else f"{value:.2f}"
            cells.append(text if first is None or not text else f"{text} ({first}: {value - first:+.2g})")
        self.rows.append([name, *cells])
        print(f"  {name}: {'  '.join(f'{c} {v}' for c, v in zip(self.columns, cells, strict=True) if v)}", file=sys.stderr, flush=True)

    def show(self) -> None:
        """The whole table."""
        print(f"\n{self.title}; in brackets: as first measured, and the difference\n")
        print(tabulate(self.rows, headers=["", *self.columns], tablefmt="pipe", disable_numparse=True), flush=True)


@cache
def mini_clips() -> ClipBatch:
    """arcade-mini: 101 clips. Video stays uint8 (`mini_videos`)."""
    parts = [batch.clips for batch in splits.batches(splits.load("arcade-mini"), 8) if batch.clips is not None]
    first = parts[0]
    video = torch.cat([to_bytes(part.video) for part in parts if part.video is not None])
    audio = torch.cat([part.audio for part in parts if part.audio is not None])
    return ClipBatch(video=video, audio=audio, fps=first.fps, sample_rate=first.sample_rate)


def mini_videos() -> Tensor:
    """uint8 (101, 16, 3, 128, 128)."""
    video = mini_clips().video
    assert video is not None
    return video


@cache
def bank() -> Bank:
    """Mean frames of the first 6,144 training clips."""
    return load_bank(bank_file("scenes", BANK_CLIPS), "scenes")


@cache
def mini_scenes(spans: int = 1) -> Tensor:
    """uint8 (101, spans, 3, 128, 128): the bank's nearest to the mean frame of each span of each test clip."""
    return _nearest(mini_videos(), spans)


@cache
def residual_scenes(spans: int = 1) -> Tensor:
    """uint8 (896, spans, 3, 128, 128): the same of the clips that residuals are fitted to, which are not in the bank."""
    return torch.cat([_nearest(video, spans) for video, _ in training_clips(BANK_CLIPS, BANK_CLIPS + RESIDUAL_CLIPS)])


def _nearest(video: Tensor, spans: int) -> Tensor:
    return bank().items[bank().encode(span_frames(video, spans).flatten(0, 1))].unflatten(0, (-1, spans))


def painted(paint: Callable[[int], Tensor], *, with_lpips: bool = False) -> tuple[float, float, float]:
    """PSNR, LPIPS (NaN unless asked for) and PSNR of the moving pixels: means over the test clips of paint(clip), (16, 3, 128, 128)."""
    rows = []
    for clip, pixels in enumerate(mini_videos()):
        reference, recon = pixels[None].float() / 255, paint(clip).clamp(0, 1).expand_as(pixels)[None]
        perceptual = lpips(reference, recon).double() if with_lpips else torch.tensor([torch.nan], dtype=torch.float64)
        rows.append(torch.cat([psnr(reference, recon), perceptual, psnr_motion(reference, recon)]).clamp(max=CAP_DB))
    mean = torch.stack(rows).nanmean(0)
    return float(mean[0]), float(mean[1]), float(mean[2])


def residual_sample(patch: VideoPatch, spans: int = 1) -> Tensor:
    """int16 (M, D): at random as many patches of each clip as k-means reads of all of them."""
    generator = torch.Generator().manual_seed(0)
    keep = -(-linear_vq.KMEANS_PATCHES // RESIDUAL_CLIPS)
    kept, scenes = [], iter(residual_scenes(spans).split(8))
    for video, _ in training_clips(BANK_CLIPS, BANK_CLIPS + RESIDUAL_CLIPS):
        for clip in residual_patches(video, next(scenes), patch):
            kept.append(clip[torch.randperm(len(clip), generator=generator)[:keep]])
    return torch.cat(kept)


def mini_residual(clip: int, patch: VideoPatch, spans: int = 1) -> Tensor:
    """float32 (L, D) of a test clip."""
    return residual_patches(mini_videos()[clip : clip + 1], mini_scenes(spans)[clip : clip + 1], patch)[0].float() / 255


def scene(clip: int, spans: int = 1) -> Tensor:
    """The clip's scenes, each held for its span: (16, 3, 128, 128)."""
    return over_frames(mini_scenes(spans)[clip : clip + 1], 16)[0].float() / 255


def on_scene(clip: int, patches: Tensor, patch: VideoPatch, spans: int = 1) -> Tensor:
    """The clip's scenes with residual patches (L, D) on them: (16, 3, 128, 128)."""
    return scene(clip, spans) + patches_to_video(patches, patch, (16, 128, 128))[0]


def _residual_of(patches: list[Tensor], patch: VideoPatch, spans: int, clip: int) -> Tensor:
    return on_scene(clip, patches[clip], patch, spans)


def entropy(codes: Tensor, entries: int = VOCAB) -> float:
    """Bits a token if each were told by the frequency of its entry."""
    shares = torch.bincount(codes.flatten(), minlength=entries).double() / codes.numel()
    return float(-(shares * shares.clamp_min(1e-300).log2()).sum())


def second_stage(vq: LinearVq, sample: Tensor, scale: float) -> Tensor:
    """A codebook of what the first one leaves of a sample of patches."""
    points = torch.cat([vq.project(part.float() * scale) for part in sample.split(4096)])
    return kmeans(points - vq.codebook[nearest(points, vq.codebook)], VOCAB)


def pictures() -> None:
    """What paints the clip."""
    table = Table(title="What paints the clip", columns=("PSNR dB", "LPIPS", "moving dB"))
    means = mean_frames(mini_videos())
    table.add("its own mean frame (static-frame)", painted(lambda clip: means[clip], with_lpips=True), (28.71, 0.109, 13.03))
    table.add("nearest of 6,144 mean frames", painted(scene, with_lpips=True), (27.52, 0.124, 12.53))
    table.add("the same for each frame: 16 tokens", painted(partial(scene, spans=16), with_lpips=True), (None, None, None))
    sample = residual_sample(PATCH)
    vq = linear_vq.fit(sample, 1 / 255, VOCAB)
    second = second_stage(vq, sample, 1 / 255)
    del sample
    points = [vq.project(mini_residual(clip, PATCH)) for clip in range(len(mini_videos()))]
    codes = [nearest(clip, vq.codebook) for clip in points]

    def once(clip: int) -> Tensor:
        return on_scene(clip, vq.decode(codes[clip]), PATCH)

    def twice(clip: int) -> Tensor:
        coded = vq.codebook[codes[clip]]
        return on_scene(clip, vq.unproject(coded + second[nearest(points[clip] - coded, second)]), PATCH)

    table.add("+ 256 tokens of its residual, 8x8x16", painted(once, with_lpips=True), (28.85, 0.112, 14.26))
    table.add("+ a second stage of 256", painted(twice), (29.36, None, None))
    table.add("64 dimensions, not quantised", painted(lambda clip: on_scene(clip, vq.unproject(points[clip]), PATCH)), (31.18, None, None))
    for name, stated in (("pca-vq@256x12", (25.16, 0.172, 14.05)), ("h264@1k", (26.96, 0.103, 17.32)), ("h264@5k", (37.35, 0.015, 28.73))):
        table.add(name, painted(_by_tokenizer(name), with_lpips=True), stated)
    table.show()
    used = entropy(torch.stack(codes))
    print(f"\nEntries that the residual's tokens use: perplexity {2**used:.0f} of {VOCAB} (39), {used:.1f} bits (5.3)")


def _by_tokenizer(name: str) -> Callable[[int], Tensor]:
    tokenizer = load_tokenizer(name)
    clips = mini_clips()

    def paint(clip: int) -> Tensor:
        one = clips.select([clip])
        assert one.video is not None
        audio = one.audio if "audio" in tokenizer.info.modalities else None
        recon = tokenizer.decode(
            tokenizer.encode(ClipBatch(video=one.video.float() / 255, audio=audio, fps=one.fps, sample_rate=one.sample_rate))
        )
        assert recon.video is not None
        return recon.video[0]

    return paint


def frames() -> None:
    """The clip's mean frame through principal components of whole mean frames, and their product quantisation."""
    table = Table(title=f"Mean frames through principal components of {PCA_CLIPS:,}", columns=("PSNR dB",))
    items = bank().items[:PCA_CLIPS]
    mean, components = pca_of_pictures(items.flatten(1), max(DIMENSIONS))
    coordinates = torch.cat([(part.flatten(1).float() / 255 - mean) @ components for part in items.split(256)])
    tests = (mean_frames(mini_videos()).flatten(1) - mean) @ components

    def through(points: Tensor) -> tuple[float]:
        """PSNR of clips shown as points (101, P) of the first P components."""
        return (painted(lambda clip: (mean + components[:, : points.shape[1]] @ points[clip]).unflatten(0, (3, 128, 128)))[0],)

    for count, stated in DIMENSIONS.items():
        table.add(f"{count} dimensions", through(tests[:, :count]), (stated,))
    for tokens, stated in PRODUCT_TOKENS.items():
        parts = zip(*(x[:, : tokens * DIMENSIONS_A_TOKEN].split(DIMENSIONS_A_TOKEN, 1) for x in (tests, coordinates)), strict=True)
        coded = torch.cat([book[nearest(part, book)] for part, book in parts], dim=1)
        table.add(
            f"{tokens} tokens of {DIMENSIONS_A_TOKEN} dimensions each, told by {PCA_CLIPS:,} training clips'", through(coded), (stated,)
        )
    found = nearest(tests[:, :256], coordinates[:, :256])
    table.add(
        "the nearest training clip in 256 dimensions, its frame", (painted(lambda clip: items[found[clip]].float() / 255)[0],), (27.07,)
    )
    table.show()


def shapes() -> None:
    """Patches of other shapes for the residual, 256 tokens each."""
    table = Table(title="Scene token and 256 residual tokens of 12 bits", columns=("PSNR dB", "moving dB", "entropy, bits"))
    for patch, spans, stated in (*((patch, 1, stated) for patch, stated in SHAPES.items()), ((1, 32, 32), 16, (None, None, None))):
        vq = linear_vq.fit(residual_sample(patch, spans), 1 / 255, VOCAB)
        codes = torch.stack([vq.encode(mini_residual(clip, patch, spans)) for clip in range(len(mini_videos()))])
        patches = [vq.decode(clip) for clip in codes]
        values = painted(partial(_residual_of, patches, patch, spans))
        name = "x".join(map(str, patch)) + (f", {spans} scene tokens: one a frame" if spans > 1 else "")
        table.add(name, (values[0], values[2], entropy(codes)), stated)
    table.show()


def sound() -> None:
    """Patches of mels, through Griffin-Lim."""
    table = Table(title=f"The sound: PCA and k-means of mels of {PCA_CLIPS:,} clips", columns=("mel L1", "MR-STFT"))
    audio = mini_clips().audio
    assert audio is not None
    truth, vocoder = log_mel(audio[:, 0]), load_vocoder("griffinlim")
    training = torch.cat([mel for _, mel in training_clips(0, PCA_CLIPS, with_video=False)])

    def heard(mels: Tensor) -> tuple[float, float]:
        distances = [mr_stft(audio[clip : clip + 1], vocoder(mel[None])[:, None, : audio.shape[2]]) for clip, mel in enumerate(mels)]
        return float((mels - truth).abs().mean()), float(torch.cat(distances).mean())

    def coded(patch: MelPatch, *, stages: int = 1, training: Tensor = training, truth: Tensor = truth) -> Tensor:
        sample = mel_to_patches(training, patch).flatten(0, 1)
        vq, patches = linear_vq.fit(sample, 1.0, VOCAB), mel_to_patches(truth, patch)
        points = vq.project(patches.flatten(0, 1))
        found = vq.codebook[nearest(points, vq.codebook)]
        if stages == 2:
            second = second_stage(vq, sample, 1.0)
            found = found + second[nearest(points - found, second)]
        return patches_to_mel(vq.unproject(found).view_as(patches), patch, NUM_MELS)

    table.add("16x16, 120 tokens (pca-vq)", heard(coded((16, 16))), (0.374, 1.525))
    table.add("80x6, two stages, 128 tokens", heard(coded((80, 6), stages=2)), (0.227, 1.451))
    table.add("40x6, 128 tokens", heard(coded((40, 6))), (0.261, 1.416))
    table.add("80x4, 96 tokens: whole columns", heard(coded((80, 4))), (0.229, 1.391))
    table.add("80x3, 128 tokens: whole columns", heard(coded((80, 3))), (0.207, 1.345))
    spectra, others = training.float().mean(2), _nearest_other(training.float().mean(2))
    base = spectra[nearest(truth.mean(2), spectra)][:, :, None]
    residual = coded((80, 4), training=training.float() - spectra[others][:, :, None], truth=truth - base)
    table.add("nearest mean spectrum, then 80x4: 97 tokens", heard(base + residual), (0.308, 1.519))
    table.add("the true mel", heard(truth), (0.0, 1.034))
    table.show()


def _nearest_other(points: Tensor) -> Tensor:
    """Of each point (M, P) the nearest of the others."""
    distances = torch.cdist(points, points)
    return distances.fill_diagonal_(torch.inf).argmin(1)


TABLES = {"pictures": pictures, "frames": frames, "shapes": shapes, "sound": sound}


def main() -> None:
    """The tables asked for."""
    unknown = set(sys.argv[1:]) - TABLES.keys()
    if unknown:
        sys.exit(f"no table {', '.join(sorted(unknown))}; there are {', '.join(TABLES)}")
    with torch.inference_mode():
        for name in sys.argv[1:] or TABLES:
            TABLES[name]()


if __name__ == "__main__":
    main()
