"""avbench.weights.half: one file of feature networks, for trainings on a machine that is lent for minutes."""

from pathlib import Path

import pytest
import torch

from avbench.errors import AvbenchError
from avbench.nn.pretrained import aisfx, i3d, lpips
from avbench.tokenizers.avtok.teacher import LAST_MIXED, StandInTeacher, half_networks
from avbench.weights import half

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file, whose sha256 `write` compares with the pinned one."""
    path = tmp_path_factory.mktemp("half") / "networks.safetensors"
    half.write(path, half_networks())
    return path


@pytest.mark.slow
def test_the_file_is_small_and_networks_of_it_see_nearly_the_same(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert file.stat().st_size < 54_000_000
    torch.manual_seed(0)
    frames = torch.rand(4, 3, 64, 64)
    other = (frames + 0.1 * torch.randn_like(frames)).clamp(0, 1)
    video, sound = torch.randint(256, (1, 16, 3, 64, 64), dtype=torch.uint8), 0.1 * torch.randn(1, 24_000)
    found = []
    for name in ("", str(file)):
        monkeypatch.setenv(half.VARIABLE, name)
        teacher = StandInTeacher()
        features = [teacher.features("video", video, (4, 4, 4)), teacher.features("audio", sound, (1, 5, 6))]
        found.append([lpips.load_for_training(CPU)(frames, other, normalize=True).flatten(), *(x.flatten() for x in features)])
    exact, near = found
    assert torch.allclose(near[0], exact[0], rtol=2e-4)
    for a, b in zip(exact[1:], near[1:], strict=True):
        assert torch.nn.functional.cosine_similarity(a, b, dim=0) > 0.9999
        assert not torch.equal(a, b)


@pytest.mark.slow
def test_metrics_never_read_it(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(half.VARIABLE, str(file))
    i3d.load.cache_clear()
    exact, near = i3d.load(CPU), i3d.load_trunk(CPU, LAST_MIXED)
    assert exact.logits_weight.shape == (400, 1024)
    assert not torch.equal(exact.conv_1a.weight, near.conv_1a.weight)
    assert not torch.equal(aisfx.load(CPU).conv_block1.conv1.weight, aisfx.load_for_training(CPU).conv_block1.conv1.weight)


def test_another_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(half.VARIABLE, str(tmp_path / "nothing"))
    with pytest.raises(AvbenchError, match="is not there, or not the file"):
        half.arrays("vgg16")
    (tmp_path / "nothing").write_bytes(b"something else")
    with pytest.raises(AvbenchError, match="or not the file"):
        half.arrays("vgg16")
    monkeypatch.delenv(half.VARIABLE)
    assert half.arrays("vgg16") is None
