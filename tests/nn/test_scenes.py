"""Banks of scenes: the nearest entry is the one a plain search finds, clusters are clusters, and scene plus residual is the clip."""

import pytest
import torch

from avbench.errors import AvbenchError
from avbench.nn import linear_vq
from avbench.nn.patches import patches_to_video
from avbench.nn.scenes import Bank, fit_bank, mean_frames, over_frames, residual_patches, span_frames, to_bytes


def _pictures(count: int, seed: int = 0) -> torch.Tensor:
    """Smooth pictures and noisy ones, so that coarse and full distances order them differently: uint8 (count, 3, 16, 24)."""
    generator = torch.Generator().manual_seed(seed)
    smooth = torch.nn.functional.interpolate(torch.rand(count, 3, 4, 6, generator=generator), scale_factor=4.0)
    noise = torch.rand(count, 3, 16, 24, generator=generator) * torch.rand(count, 1, 1, 1, generator=generator)
    return to_bytes((smooth + noise) / 2)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16])
def test_the_search_finds_what_comparing_with_everything_finds(dtype: torch.dtype) -> None:
    items, queries = _pictures(500), _pictures(40, seed=1).float() / 255
    bank = Bank(items=items if dtype == torch.uint8 else (items / 255).half())
    distances = torch.cdist(queries.flatten(1).double(), bank.decode(torch.arange(500)).flatten(1).double())
    assert torch.equal(bank.encode(queries), distances.argmin(1))
    coarse = torch.cdist(torch.nn.functional.avg_pool2d(queries, 8).flatten(1), bank.coarse * bank.scale)
    assert not torch.equal(coarse.argmin(1), distances.argmin(1))  # the coarse comparison alone would not do


def test_entries_that_are_not_allowed_are_not_chosen() -> None:
    items = _pictures(200)
    bank, queries = Bank(items=items), items[:20].float() / 255
    assert bank.encode(queries).tolist() == list(range(20))
    allowed = ~torch.eye(200, dtype=torch.bool)[:20]
    distances = torch.cdist(queries.flatten(1).double(), bank.decode(torch.arange(200)).flatten(1).double())
    assert torch.equal(bank.encode(queries, allowed=allowed), distances.masked_fill(~allowed, torch.inf).argmin(1))
    only = torch.zeros(1, 200, dtype=torch.bool)
    only[0, 123] = True
    assert bank.encode(queries[:1], allowed=only).tolist() == [123]


def test_decode_gives_the_picture_back() -> None:
    items = _pictures(5)
    assert torch.equal(to_bytes(Bank(items=items).decode(torch.tensor([3, 1]))), items[[3, 1]])


def test_clusters_are_the_means_of_what_belongs_together() -> None:
    centres = _pictures(4, seed=2).float() / 255
    items = to_bytes(centres.repeat(25, 1, 1, 1) + 0.02 * torch.randn(100, 3, 16, 24, generator=torch.Generator().manual_seed(3)))
    bank = fit_bank(items, 4)
    assert len(bank) == 4
    distances = torch.cdist(centres.flatten(1), bank.decode(torch.arange(4)).flatten(1))
    assert distances.min(1).values.max() < 0.02 * distances.max()
    assert sorted(distances.argmin(1).tolist()) == [0, 1, 2, 3]


def test_a_bank_of_all_items_keeps_them_and_one_of_too_many_clusters_is_refused() -> None:
    items = _pictures(10)
    assert torch.equal(fit_bank(items).items, items)
    with pytest.raises(AvbenchError, match="cannot fill a codebook of 11"):
        fit_bank(items, 11)


def test_mean_frames_of_bytes_and_of_floats_are_the_same() -> None:
    video = torch.randint(0, 256, (2, 4, 3, 8, 8), dtype=torch.uint8)
    torch.testing.assert_close(mean_frames(video), mean_frames(video.float() / 255), atol=1e-6, rtol=0)


def test_spans_have_mean_frames_of_their_own_and_are_held_for_their_frames() -> None:
    video = torch.randint(0, 256, (2, 8, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(7))
    spans = span_frames(video, 4)
    torch.testing.assert_close(spans[1, 2], video[1, 4:6].float().mean(0) / 255)
    assert torch.equal(span_frames(video, 1)[:, 0], mean_frames(video))
    shown = over_frames(spans, 8)
    assert torch.equal(shown[0, 5], spans[0, 2])
    with pytest.raises(AvbenchError, match="8 frames are not 3 equal spans"):
        span_frames(video, 3)
    scenes = to_bytes(spans)
    assert torch.equal(
        residual_patches(video, scenes, (8, 8, 8))[1].flatten(), (video[1].to(torch.int16) - over_frames(scenes, 8)[1]).flatten()
    )


def test_scene_and_residual_patches_are_the_clip() -> None:
    generator = torch.Generator().manual_seed(4)
    video = torch.randint(0, 256, (3, 4, 3, 16, 16), dtype=torch.uint8, generator=generator)
    scenes = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8, generator=generator)
    patches = residual_patches(video, scenes, (2, 8, 8))
    assert (patches.dtype, patches.shape) == (torch.int16, (3, 8, 384))
    back = torch.stack([patches_to_video(clip, (2, 8, 8), (4, 16, 16))[0] for clip in patches]) + scenes[:, None]
    assert torch.equal(back, video.to(torch.int16))
    with pytest.raises(AvbenchError, match="uint8"):
        residual_patches(video.float(), scenes, (2, 8, 8))


def test_a_linear_vq_of_residual_patches_paints_what_moves() -> None:
    generator = torch.Generator().manual_seed(5)
    scenes = _pictures(30, seed=6)[:, :, :, :16]
    video = scenes[:, None].repeat(1, 4, 1, 1, 1)
    for clip, place in zip(video, torch.randint(0, 2, (30, 2), generator=generator) * 8, strict=True):
        clip[1, :, place[0] : place[0] + 8, place[1] : place[1] + 8] = 255  # one white block of one frame
    patches = residual_patches(video, scenes, (1, 8, 8)).flatten(0, 1)
    fitted = linear_vq.fit(patches, 1 / 255, 32)
    painted = fitted.decode(fitted.encode(patches.float() / 255))
    assert (painted - patches / 255).square().mean() < 0.1 * (patches / 255).square().mean()
