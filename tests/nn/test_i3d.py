"""I3D: TensorFlow's padding, the folding of its normalisation, and the cache of features."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from avbench import weights
from avbench.metrics.features.cache import cached_features
from avbench.nn.pretrained import i3d


@pytest.fixture(scope="module")
def variables() -> dict[str, Any]:
    return weights.load_array_pickle(weights.path("i3d-k400"), weights.CATALOG["i3d-k400"].sha256 or "")


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "front", "back"),
    [(224, 7, 2, 2, 3), (112, 3, 2, 0, 1), (15, 3, 2, 1, 1), (15, 2, 2, 0, 1), (16, 2, 2, 0, 0), (16, 1, 1, 0, 0)],
)
def test_same_padding_puts_the_odd_zero_at_the_end(size: int, kernel: int, stride: int, front: int, back: int) -> None:
    padded = i3d.pad_same(torch.ones(1, 1, 1, 1, size), (1, 1, kernel), (1, 1, stride)).flatten()
    assert padded.tolist() == [0.0] * front + [1.0] * size + [0.0] * back


def test_the_first_layer_equals_convolution_then_normalisation_written_out(variables: dict[str, Any]) -> None:
    layer, stats = variables["params"]["Conv3d_1a_7x7"], variables["batch_stats"]["Conv3d_1a_7x7"]["BatchNorm_0"]
    x = torch.rand(1, 3, 4, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    kernel = torch.from_numpy(layer["Conv_0"]["kernel"]).permute(4, 3, 0, 1, 2)
    raw = F.conv3d(F.pad(x, (2, 3, 2, 3, 2, 3)), kernel, stride=2)
    mean, var, bias = (torch.from_numpy(y.reshape(1, -1, 1, 1, 1)) for y in (stats["mean"], stats["var"], layer["BatchNorm_0"]["bias"]))
    expected = F.relu((raw - mean) / torch.sqrt(var + 1e-3) + bias)
    assert torch.allclose(i3d.I3D(variables).conv_1a(x), expected, atol=1e-5)


def test_a_block_equals_its_branches_run_one_by_one(variables: dict[str, Any]) -> None:
    x = torch.rand(1, 192, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    block = variables["params"]["Mixed_3b"], variables["batch_stats"]["Mixed_3b"]

    def unit(y: torch.Tensor, name: str) -> torch.Tensor:
        kernel = torch.from_numpy(block[0][name]["Conv_0"]["kernel"]).permute(4, 3, 0, 1, 2)
        stats = block[1][name]["BatchNorm_0"]
        y = F.conv3d(y, kernel, padding=kernel.shape[-1] // 2)
        mean, var = (torch.from_numpy(stats[key].reshape(-1)) for key in ("mean", "var"))
        return F.relu(F.batch_norm(y, mean, var, bias=torch.from_numpy(block[0][name]["BatchNorm_0"]["bias"]), eps=1e-3))

    branches = [
        unit(x, "Branch_0/Conv3d_0a_1x1"),
        unit(unit(x, "Branch_1/Conv3d_0a_1x1"), "Branch_1/Conv3d_0b_3x3"),
        unit(unit(x, "Branch_2/Conv3d_0a_1x1"), "Branch_2/Conv3d_0b_3x3"),
        unit(F.max_pool3d(x, 3, 1, 1), "Branch_3/Conv3d_0b_1x1"),
    ]
    assert torch.allclose(i3d.I3D(variables).mixed["3b"](x), torch.cat(branches, dim=1), atol=1e-4)


def test_the_range_is_mapped_to_minus_one_and_one_at_224_pixels() -> None:
    frames = i3d.preprocess(torch.cat([torch.zeros(1, 2, 3, 16, 16), torch.ones(1, 2, 3, 16, 16)]))
    assert frames.shape == (2, 3, 2, 224, 224)
    assert torch.allclose(frames, torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1, 1), atol=1e-6)


def test_too_few_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="9 frames or more"):
        i3d.logits(i3d.load("cpu"), torch.zeros(1, 8, 3, 16, 16))


def test_every_array_of_the_file_has_its_place_in_the_network(variables: dict[str, Any]) -> None:
    def count(tree: Any) -> int:
        return sum(count(branch) for branch in tree.values()) if isinstance(tree, dict) else tree.size

    assert sum(p.numel() for p in i3d.I3D(variables).parameters()) == count(variables["params"])


def test_only_missing_clips_are_extracted_and_order_is_kept(tmp_path: Path) -> None:
    asked: list[list[int]] = []

    def extract(positions: list[int]) -> torch.Tensor:
        asked.append(positions)
        return torch.tensor([[float(position)] * 3 for position in positions])

    cached_features(tmp_path, "net", ("a", "c/../d"), extract)
    features = cached_features(tmp_path, "net", ("x", "c/../d", "a"), extract)
    assert asked == [[0, 1], [0]]
    assert features[:, 0].tolist() == [0.0, 1.0, 0.0]
    assert sorted(file.suffix for file in tmp_path.rglob("*") if file.is_file()) == [".npy"] * 3


def test_another_extractor_or_a_damaged_file_is_extracted_again(tmp_path: Path) -> None:
    def extract(positions: list[int]) -> torch.Tensor:
        return torch.ones(len(positions), 2)

    cached_features(tmp_path, "net-1", ("a",), extract)
    assert cached_features(tmp_path, "net-2", ("a",), lambda positions: 2 * extract(positions)).tolist() == [[2.0, 2.0]]
    for file in tmp_path.rglob("*.npy"):
        file.write_bytes(file.read_bytes()[:40])
    assert cached_features(tmp_path, "net-1", ("a",), extract).tolist() == [[1.0, 1.0]]


def test_a_cached_pickle_is_not_unpickled(tmp_path: Path) -> None:
    def extract(positions: list[int]) -> torch.Tensor:
        return torch.ones(len(positions), 2)

    cached_features(tmp_path, "net", ("a",), extract)
    (file,) = tmp_path.rglob("*.npy")
    np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert cached_features(tmp_path, "net", ("a",), extract).tolist() == [[1.0, 1.0]]
