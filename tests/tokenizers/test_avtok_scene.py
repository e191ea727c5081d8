"""Scenes of AVTok: the bank, the codebook as a scene reads it, and the start."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from avbench.errors import AvbenchError
from avbench.tokenizers.avtok.checkpoint import load_checkpoint, save_checkpoint
from avbench.tokenizers.avtok.config import AVTokConfig, QuantizerConfig, StreamConfig
from avbench.tokenizers.avtok.model import AVTokModel
from avbench.tokenizers.avtok.quantizer import Quantizer
from avbench.tokenizers.avtok.scene import Scenes, pack, unpack
from avbench.tokenizers.avtok.streams import patchify, unpatchify
from avbench.tokenizers.avtok.train.data import stream_inputs
from avbench.tokenizers.avtok.train.scene_start import apply_scene_start
from avbench.train.data import TrainBatch

CLIPS = 48
MODEL = AVTokConfig(
    name="tiny",
    video=StreamConfig(channels=3, size=(2, 16, 16), patch=(1, 8, 8), tokens=8, scenes=4, groups=2, fine=4, scene_width=8),
    audio=StreamConfig(channels=1, size=(1, 80, 24), patch=(1, 80, 3), tokens=8, scenes=4, groups=2, fine=4, scene_width=8),
    width=64,
    encoder_layers=1,
    decoder_layers=2,
    heads=2,
    quantizer=QuantizerConfig(kind="euclidean", entries=32, dim=8, temperature=0.0),
)


class ToyReader:
    """Clips of four scenes, each with a square of its scene's colour that moves, and with sounds of four spectra that swell."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        scenes = (255 * torch.rand(4, 1, 3, 16, 16, generator=generator)).round()
        colours = 255 * torch.rand(4, 3, 1, 1, generator=generator)
        video = scenes[torch.arange(CLIPS) % 4].repeat(1, 2, 1, 1, 1)
        for clip in range(CLIPS):
            for frame in range(2):
                x, y = torch.randint(0, 13, (2,), generator=generator).tolist()
                video[clip, frame, :, y : y + 3, x : x + 3] = colours[clip % 4]
        self.video = video.byte()
        spectra = 8 * torch.rand(4, 80, 1, generator=generator) - 10
        swell = torch.rand(CLIPS, 1, 24, generator=generator)
        self.mel = spectra[torch.arange(CLIPS) % 4] + 2 * swell

    def __len__(self) -> int:
        return CLIPS

    def batch(self, indices: list[int]) -> TrainBatch:
        return TrainBatch(video=self.video[indices], mel=self.mel[indices].half())


@pytest.fixture(scope="module", params=[False, True], ids=["copied", "aligned"])
def model(request: pytest.FixtureRequest) -> AVTokModel:
    torch.manual_seed(0)
    streams = {name: replace(MODEL.stream(name), aligned=request.param) for name in MODEL.streams}
    made = AVTokModel(replace(MODEL, video=streams["video"], audio=streams["audio"]))
    apply_scene_start(made, ToyReader(), seed=0)  # type: ignore[arg-type]
    return made.eval()


def inputs() -> dict[str, Tensor]:
    """All clips, in [0, 1]."""
    found = stream_inputs(ToyReader().batch(list(range(CLIPS))))
    return {name: x.float() / 255 if x.dtype == torch.uint8 else x for name, x in found.items()}


def test_a_bank_is_lossless_and_refuses_pictures_of_another_size() -> None:
    picture = torch.randint(0, 256, (3, 16, 16), dtype=torch.uint8)
    assert torch.equal(unpack(pack(picture), MODEL.video), picture)
    with pytest.raises(AvbenchError, match="16x16 pixels, not 32x32"):
        unpack(pack(picture), replace(MODEL.video, size=(2, 32, 32)))
    with pytest.raises(AvbenchError, match="no pictures"):
        unpack(b"RIFF nothing of the kind", MODEL.video)


def test_the_first_token_names_the_scene(model: AVTokModel) -> None:
    codes = model.tokenize("video", inputs()["video"])
    assert codes.shape == (CLIPS, MODEL.video.length) == (CLIPS, 9)
    first = codes[:, 0].view(-1, 4)
    assert (first == first[0]).all()  # clip number modulo 4 is its scene
    assert len(first[0].unique()) == 4


def test_the_entries_are_those_of_the_clips_group() -> None:
    quantizer = Quantizer(QuantizerConfig(kind="euclidean", entries=6, dim=3, temperature=0.0))
    z, book = torch.randn(2, 5, 3), torch.randn(2, 6, 3)
    expected = torch.stack([torch.cdist(z[clip], book[clip]).argmin(1) for clip in range(2)])
    assert torch.equal(quantizer.encode(z, book), expected)
    recon = quantizer.decode(expected, book)
    assert torch.equal(recon[1, 2], book[1, expected[1, 2]])


@pytest.mark.parametrize("name", ["video", "audio"])
def test_before_training_the_network_is_scene_basis_and_entries(model: AVTokModel, name: str) -> None:
    """The same from the fitted numbers alone, without a transformer."""
    x, stream, scenes = inputs()[name], MODEL.stream(name), model.stream_scenes(name)
    assert isinstance(scenes, Scenes)
    scene = scenes.choose(x)
    group = scenes.group[scene]
    embed, head = model.stream_encoder(name).patch_embed, model.stream_decoder(name).head
    content = scenes.centre.shape[1] - 5 - 13
    patches = patchify((x - scenes.picture(scene)).contiguous(), stream)
    coordinates = (patches @ embed.weight[:content].T + embed.bias[:content]) / scenes.scale
    latents = torch.einsum("blu,buk->blk", coordinates - scenes.centre[group, None, :content], scenes.basis[group, :content])
    book = (scenes.coarse[group][:, :, None] + scenes.fine[group][:, None]).flatten(1, 2)
    chosen = book.gather(1, torch.cdist(latents, book).argmin(2)[..., None].expand(-1, -1, 8))
    back = torch.einsum("blk,buk->blu", chosen, scenes.basis[group, :content]) + scenes.centre[group, None, :content]
    expected = unpatchify(back @ head.weight[:, :content].T + head.bias, stream) + scenes.picture(scene)
    recon = model.detokenize(name, model.tokenize(name, x))
    assert (recon - expected.clamp(0, 1)).abs().mean() < 0.01
    assert (recon - x).square().mean() < 0.75 * (scenes.picture(scene) - x).square().mean()


def test_a_scene_that_the_bank_lacks_is_refused(model: AVTokModel) -> None:
    codes = model.tokenize("video", inputs()["video"][:1]).clone()
    codes[0, 0] = 4
    with pytest.raises(AvbenchError, match="scene 4 of a bank of 4"):
        model.detokenize("video", codes)


def test_a_checkpoint_holds_its_bank(model: AVTokModel, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "saved", model, {})
    loaded = load_checkpoint(tmp_path / "saved").model
    save_checkpoint(tmp_path / "half", copy.deepcopy(model).to(torch.bfloat16), {})
    half = load_checkpoint(tmp_path / "half").model
    for name, x in inputs().items():
        assert torch.equal(loaded.tokenize(name, x), model.tokenize(name, x))  # type: ignore[arg-type]
        assert half.detokenize(name, half.tokenize(name, x)).sub(x).square().mean() < 0.02  # type: ignore[arg-type]
        assert torch.equal(loaded.scenes[name].pictures(), model.scenes[name].pictures())  # type: ignore[operator, union-attr]


def test_a_bank_of_megabytes_is_a_possible_config(model: AVTokModel) -> None:
    from avbench.artifact import _check_value

    _check_value("scene_bytes", 3_240_478, "here", 0)
    with pytest.raises(AvbenchError, match="not possible"):
        _check_value("scene_bytes", 2**40, "here", 0)
