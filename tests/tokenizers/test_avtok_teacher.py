"""The stand-in teacher, where its weights are on this machine (`avbench weights pull i3d-k400 aisfx`)."""

import pytest
import torch

from avbench import weights
from avbench.nn.pretrained import aisfx, i3d
from avbench.tokenizers.avtok.teacher import BANDS, STAND_IN_DIMS, StandInTeacher


@pytest.fixture(scope="module")
def teacher() -> StandInTeacher:
    for name in ("i3d-k400", "aisfx"):
        try:
            weights.path(name, fetch=False)
        except weights.WeightsUnavailable as error:
            pytest.skip(str(error))
    return StandInTeacher()


def test_features_lie_on_the_streams_patch_grids_and_depend_on_the_clip(teacher: StandInTeacher) -> None:
    generator = torch.Generator().manual_seed(0)
    video, audio = torch.rand(2, 16, 3, 128, 128, generator=generator), 0.1 * torch.randn(2, 98_304, generator=generator)
    for stream, clips, grid in (("video", video, (4, 8, 8)), ("video", video, (4, 16, 16)), ("audio", audio, (1, 5, 24))):
        features = teacher.features(stream, clips, grid)
        assert features.shape == (2, grid[0] * grid[1] * grid[2], STAND_IN_DIMS[stream])
        assert not features.requires_grad
        assert not torch.allclose(features[0], features[1])


def test_a_change_in_one_corner_changes_that_corners_features_most(teacher: StandInTeacher) -> None:
    video = torch.full((1, 16, 3, 128, 128), 0.5)
    marked = video.clone()
    marked[..., :32, 96:] = torch.rand(32, 32, generator=torch.Generator().manual_seed(1))
    moved = (teacher.features("video", marked, (4, 8, 8)) - teacher.features("video", video, (4, 8, 8))).norm(dim=-1).view(4, 8, 8).mean(0)
    assert divmod(int(moved.argmax()), 8)[0] < 3
    assert divmod(int(moved.argmax()), 8)[1] > 4


def test_a_tone_moves_the_features_of_its_own_band_and_time(teacher: StandInTeacher) -> None:
    time = torch.arange(98_304) / 24_000
    tone = torch.where(time > 2.5, 0.3 * torch.sin(2 * torch.pi * 5000 * time), 0.0)[None]
    moved = (teacher.features("audio", tone, (1, 5, 24)) - teacher.features("audio", 0 * tone, (1, 5, 24))).norm(dim=-1).view(5, 24)
    band, frame = divmod(int(moved.argmax()), 24)
    assert band >= 2
    assert frame >= 12


def test_the_map_is_the_metrics_own_network_cut_short(teacher: StandInTeacher) -> None:
    """Oracle: a forward hook on the block, in the network's own pass."""
    video = torch.rand(1, 16, 3, 128, 128, generator=torch.Generator().manual_seed(2))
    seen = []
    handle = teacher.video.mixed["4f"].register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    with torch.inference_mode():
        teacher.video.feature_map((2 * video - 1).transpose(1, 2).contiguous(memory_format=i3d.LAYOUT))
    handle.remove()
    expected = seen[0].flatten(2).transpose(1, 2)
    torch.testing.assert_close(teacher.features("video", video, (4, 8, 8)), expected)


def test_the_log_mel_is_the_metrics_own_lower_bands(teacher: StandInTeacher) -> None:
    audio = 0.2 * torch.randn(2, 50_000, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(teacher._log_mel(audio), aisfx.log_mel(audio)[..., :BANDS])


def test_bytes_and_fractions_of_255_give_the_same_features(teacher: StandInTeacher) -> None:
    video = torch.randint(0, 256, (1, 16, 3, 64, 64), generator=torch.Generator().manual_seed(4), dtype=torch.uint8)
    assert torch.equal(teacher.features("video", video, (4, 4, 4)), teacher.features("video", video.float() / 255, (4, 4, 4)))
