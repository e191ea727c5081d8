"""avbench.nn.patches against plain slices, and back."""

import pytest
import torch

from avbench.nn.patches import patches_to_video, video_to_patches


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_patch_holds_the_values_of_its_box_in_the_stated_order(channels: int, channels_last: bool) -> None:
    video = torch.arange(2 * 4 * channels * 6 * 8).reshape(2, 4, channels, 6, 8)
    patches = video_to_patches(video, (2, 3, 4), channels_last=channels_last)
    assert patches.shape == (2, 2 * 2 * 2, 2 * channels * 3 * 4)
    box = video[1, 2:4, :, 3:6, 0:4]  # second in time, second in rows, first in columns
    expected = box.permute(0, 2, 3, 1) if channels_last else box
    assert torch.equal(patches[1, 1 * 4 + 1 * 2 + 0], expected.flatten())
    assert torch.equal(patches_to_video(patches, (2, 3, 4), (4, 6, 8), channels_last=channels_last), video)
