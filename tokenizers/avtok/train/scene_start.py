"""The start of a model with scenes: banks, groups, and what each group knows of the residual, fitted to training clips.

Before its first step the model is then: the nearest scene, PCA of what it leaves, the group's own basis of that, and the nearest of the
group's own entries. Held-out arcade pictures at 1 + 256 tokens of 12 bits: one basis and one codebook for all 29.3 dB, a basis for each
game 29.9, and entries of each game's own on top over 31 (measured with labels for groups; the groups here need none).
B clips, L patches, P values a patch, U coordinates, K code width, V scenes, G groups.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from avbench.nn.kmeans import kmeans, nearest
from avbench.nn.linear_vq import Basis
from avbench.nn.patches import unit_range
from avbench.tokenizers.avtok.config import AVTokConfig, StreamName
from avbench.tokenizers.avtok.linear_init import code_width, linear_init
from avbench.tokenizers.avtok.model import AVTokModel
from avbench.tokenizers.avtok.scene import COARSE, Scenes, summary
from avbench.tokenizers.avtok.streams import patchify
from avbench.tokenizers.avtok.train.data import stream_inputs
from avbench.train.data import ClipReader

READ_CLIPS = 16
BASIS_PATCHES = 60_000  # whose principal components are taken
BOOK_PATCHES = 280_000  # for the shared codebook: 68 an entry; 15 were too few for sounds that were not among them
KEPT_PATCHES = 192  # of a clip, for its group's basis and entries
FEWEST = 2_000  # patches of a group: one with fewer takes all groups' instead
MOST = 12_000  # patches of a group that are looked at: 20 and more a coarse entry
REFINEMENTS = 3


@dataclass(frozen=True, kw_only=True)
class Entries:
    """A codebook of sums: entry i * len(fine) + j is coarse[i] + fine[j]."""

    coarse: Tensor
    fine: Tensor

    def all(self) -> Tensor:
        """(entries, K)."""
        return (self.coarse[:, None] + self.fine[None]).flatten(0, 1)


@torch.no_grad()
def apply_scene_start(model: AVTokModel, reader: ClipReader, *, seed: int) -> None:
    """Overwrite the weights of `model`, of which a stream or both have scenes; the other's start is the plain one (linear_init.py)."""
    summaries = _summaries(reader, model.config)
    scene_of: dict[StreamName, Tensor] = {}
    for name in model.config.streams:
        scenes = model.stream_scenes(name)
        if scenes is not None:
            scene_of[name] = _fit_bank(scenes, summaries[name], seed)
    generator = torch.Generator().manual_seed(seed)
    clips = torch.randperm(len(reader), generator=generator).tolist()
    wanted = {name: BASIS_PATCHES if name in scene_of else BOOK_PATCHES for name in model.config.streams}
    shares = {name: -(-patches // len(clips)) for name, patches in wanted.items()}
    sample = _residuals(reader, model, clips, scene_of, shares, generator)
    bases = linear_init(model, {name: parts.flatten(0, 1) for name, parts in sample.items()}, seed=seed, iterations=1)
    _fit_codebook(model, {name: sample[name].flatten(0, 1) for name in sample if name not in scene_of}, bases, seed)
    del sample
    points = _coordinates(reader, model, scene_of, bases, generator)
    for name, scene in scene_of.items():
        scenes = model.stream_scenes(name)
        assert scenes is not None
        _fit_groups(scenes, points[name], scenes.group[scene], seed)


def _fit_codebook(model: AVTokModel, patches: dict[StreamName, Tensor], bases: dict[str, Basis], seed: int) -> None:
    """The shared codebook, from k-means++ seeds, over the latents of the streams without scenes."""
    if patches:
        book, width = model.bottleneck.quantizer.embedding.weight, code_width(model.config)
        latents = torch.cat([bases[name].coordinates(x)[:, :width] for name, x in patches.items()])
        points = torch.nn.functional.pad(latents, (0, book.shape[1] - width))
        book.copy_(kmeans(points[torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))], len(book), seed=seed))


def _summaries(reader: ClipReader, config: AVTokConfig) -> dict[StreamName, Tensor]:
    """Stream -> uint8 (N, C, h, w): every clip's mean frame and mean column."""
    found: dict[StreamName, list[Tensor]] = {name: [] for name in config.streams if config.stream(name).scenes}
    for part in _parts(range(len(reader))):
        for name, x in stream_inputs(reader.batch(part)).items():
            if name in found:
                found[name].append((summary(x, config.stream(name)) * 255).round().to(torch.uint8))
    return {name: torch.cat(parts) for name, parts in found.items()}


def _fit_bank(scenes: Scenes, summaries: Tensor, seed: int) -> Tensor:
    """k-means of the clips' summaries (in 4 x 4 means) into scenes, and of the scenes into groups. -> int64 (N,), each clip's scene."""
    stream = scenes.stream
    keys = _key(summaries)
    order = torch.randperm(len(keys), generator=torch.Generator().manual_seed(seed))
    cluster = nearest(keys, kmeans(keys[order], stream.scenes, seed=seed, rounds=10))
    counts = torch.bincount(cluster, minlength=stream.scenes)
    means = torch.zeros(stream.scenes, *summaries.shape[1:])
    for entry in counts.nonzero().flatten().tolist():
        means[entry] = summaries[cluster == entry].float().mean(0)
    pictures = means.round().to(torch.uint8)
    centres = kmeans(keys[order], stream.groups, seed=seed, rounds=20)
    scenes.set_pictures(pictures, nearest(_key(pictures), centres))
    return scenes.choose(summaries[:, None])


def _key(pictures: Tensor) -> Tensor:
    values = pictures.float() / 255
    return torch.nn.functional.avg_pool2d(values, (COARSE, min(COARSE, values.shape[3]))).flatten(1)


def _residuals(
    reader: ClipReader,
    model: AVTokModel,
    clips: list[int],
    scene_of: dict[StreamName, Tensor],
    shares: dict[StreamName, int],
    generator: torch.Generator,
) -> dict[StreamName, Tensor]:
    """Stream -> float32 (N, share, P): so many patches of each clip, less its scene where it has one."""
    found: dict[StreamName, list[Tensor]] = {name: [] for name in model.config.streams}
    for part in _parts(clips):
        for name, patches in _less_scene(reader, model, part, scene_of).items():
            picks = torch.randint(patches.shape[1], (len(part), shares[name], 1), generator=generator)
            found[name].append(patches.gather(1, picks.expand(-1, -1, patches.shape[2])))
    return {name: torch.cat(parts) for name, parts in found.items()}


def _coordinates(
    reader: ClipReader, model: AVTokModel, scene_of: dict[StreamName, Tensor], bases: dict[str, Basis], generator: torch.Generator
) -> dict[StreamName, Tensor]:
    """Stream -> float16 (N, KEPT_PATCHES, U): coordinates of patches of each clip, in the reader's order."""
    found: dict[StreamName, list[Tensor]] = {name: [] for name in scene_of}
    for part in _parts(range(len(reader))):
        for name, patches in _less_scene(reader, model, part, scene_of).items():
            if name not in scene_of:
                continue
            picks = torch.randint(patches.shape[1], (len(part), KEPT_PATCHES, 1), generator=generator)
            chosen = patches.gather(1, picks.expand(-1, -1, patches.shape[2]))
            found[name].append(bases[name].coordinates(chosen.flatten(0, 1)).unflatten(0, (len(part), -1)).half())
    return {name: torch.cat(parts) for name, parts in found.items()}


def _less_scene(reader: ClipReader, model: AVTokModel, part: list[int], scene_of: dict[StreamName, Tensor]) -> dict[StreamName, Tensor]:
    inputs = stream_inputs(reader.batch(part))
    found: dict[StreamName, Tensor] = {}
    for name in model.config.streams:
        scenes, x = model.stream_scenes(name), unit_range(inputs[name])
        x = x if scenes is None else x - scenes.picture(scene_of[name][part])
        found[name] = patchify(x.contiguous(), model.config.stream(name))
    return found


def _fit_groups(scenes: Scenes, points_NRU: Tensor, group_N: Tensor, seed: int) -> None:
    """Each group's centre, basis and entries from the coordinates of its clips' patches."""
    common: Group | None = None
    for group in range(scenes.stream.groups):
        points = points_NRU[group_N == group].flatten(0, 1)
        if len(points) < FEWEST:
            common = common or _fit_group(scenes, points_NRU.flatten(0, 1), seed)
        fitted = common if common is not None and len(points) < FEWEST else _fit_group(scenes, points, seed)
        coordinates = len(fitted.centre)
        scenes.centre[group, :coordinates] = fitted.centre
        scenes.basis[group, :coordinates] = fitted.basis
        scenes.coarse[group], scenes.fine[group] = fitted.entries.coarse, fitted.entries.fine


@dataclass(frozen=True, kw_only=True)
class Group:
    """centre (U,), basis (U, K), entries."""

    centre: Tensor
    basis: Tensor
    entries: Entries


def _fit_group(scenes: Scenes, points: Tensor, seed: int) -> Group:
    points = points[torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))[:MOST]].float()
    centre, basis = _principal(points, scenes.basis.shape[2])
    entries = _fit_entries((points - centre) @ basis, scenes.coarse.shape[1], scenes.fine.shape[1], seed)
    return Group(centre=centre, basis=basis, entries=entries)


def _principal(points: Tensor, components: int) -> tuple[Tensor, Tensor]:
    """Mean (U,) and the strongest principal components (U, K), orthonormal columns."""
    mean = points.mean(0)
    centred = points - mean
    _, vectors = torch.linalg.eigh((centred.t() @ centred).double())
    return mean, vectors.flip(1)[:, :components].float()


def _fit_entries(points: Tensor, num_coarse: int, num_fine: int, seed: int) -> Entries:
    """k-means, k-means of what it leaves, then both by turns: each point to its best sum, each part to the mean asked of it."""
    coarse = kmeans(points, num_coarse, seed=seed, seed_points=4_000)
    fine = kmeans(points - coarse[nearest(points, coarse)], num_fine, seed=seed, seed_points=4_000)
    found = Entries(coarse=coarse, fine=fine)
    for _ in range(REFINEMENTS):
        codes = nearest(points, found.all())
        i, j = codes // num_fine, codes % num_fine
        coarse = _means(points - found.fine[j], i, found.coarse)
        found = Entries(coarse=coarse, fine=_means(points - coarse[i], j, found.fine))
    return found


def _means(points: Tensor, index: Tensor, before: Tensor) -> Tensor:
    counts = torch.bincount(index, minlength=len(before))[:, None]
    sums = torch.zeros_like(before).index_add_(0, index, points)
    return torch.where(counts > 0, sums / counts.clamp_min(1), before)


def _parts(clips: "range | list[int]") -> list[list[int]]:
    return [list(clips[first : first + READ_CLIPS]) for first in range(0, len(clips), READ_CLIPS)]
