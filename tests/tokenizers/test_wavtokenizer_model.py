"""WavTokenizer's network: shapes, sizes, independence of clips, training, folding, the spectrum head."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from avbench.errors import AvbenchError
from avbench.nn.residual_vq import CodebookConfig
from avbench.tokenizers.wavtokenizer.checkpoint import optimise
from avbench.tokenizers.wavtokenizer.config import BackboneConfig, EncoderConfig, WavTokenizerConfig, wavtokenizer_40, wavtokenizer_75
from avbench.tokenizers.wavtokenizer.model import WavTokenizerModel, inverse_stft
from avbench.train.waveform.losses import log_mel_l1

TINY = WavTokenizerConfig(
    name="tiny",
    n_fft=24,
    encoder=EncoderConfig(strides=(2, 3), filters=4, lstm_layers=1),
    codebook=CodebookConfig(entries=16, dim=8, kmeans_iterations=5),
    backbone=BackboneConfig(width=16, hidden=32, layers=2, position_blocks=1, groups=4, conditions=2),
)


def make(config: WavTokenizerConfig = TINY) -> WavTokenizerModel:
    torch.manual_seed(0)
    model = WavTokenizerModel(config)
    for book in model.quantizer.layers:
        book.embed.normal_()  # type: ignore[union-attr, operator]
        book.inited.fill_(1.0)  # type: ignore[union-attr, operator]
    return model.eval()


def audio(batch: int = 2, samples: int = 100) -> Tensor:
    return 0.3 * torch.randn(batch, samples, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("samples", [1, 5, 6, 7, 12, 97, 100, 102])
def test_a_token_is_a_hop_and_the_last_one_may_reach_past_the_end(samples: int) -> None:
    model = make()
    codes = model.tokenize(audio(samples=samples))
    assert codes.shape == (2, 1, -(-samples // 6))
    assert codes.shape[2] == TINY.num_tokens(samples)
    assert model.detokenize(codes).shape == (2, codes.shape[2] * 6)
    assert model(audio(samples=samples)).audio.shape == (2, samples)


@pytest.mark.parametrize(("config", "tokens", "weights"), [(wavtokenizer_40(), 164, 72_111_714), (wavtokenizer_75(), 308, 71_750_146)])
def test_the_published_sizes(config: WavTokenizerConfig, tokens: int, weights: int) -> None:
    with torch.device("meta"):
        model = WavTokenizerModel(config)
    assert config.num_tokens(98_304) == tokens
    assert sum(p.numel() for p in model.parameters()) == weights
    assert model.num_parameters() == weights + 4096 * 512


def test_forward_is_detokenize_of_tokenize() -> None:
    model = make()
    with torch.no_grad():
        whole = model(audio())
        codes = model.tokenize(audio())
        torch.testing.assert_close(whole.audio, model.detokenize(codes)[:, :100])
    assert torch.equal(whole.codes, codes)


def test_clips_of_a_batch_do_not_touch_each_other() -> None:
    model = make()
    with torch.no_grad():
        together = model(audio()).audio
        alone = torch.cat([model(clip[None]).audio for clip in audio()])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("residual_kernel", [1, 3])
def test_inference_gives_what_training_code_gives(residual_kernel: int) -> None:
    model = make(replace(TINY, encoder=replace(TINY.encoder, residual_kernel=residual_kernel)))
    expected = model(audio())
    codes, latents = expected.codes, model.encoder(audio()[:, None]).detach()
    optimise(model)
    with torch.inference_mode():
        torch.testing.assert_close(model.encoder(audio()[:, None]), latents, atol=1e-5, rtol=1e-4)
        assert torch.equal(model.tokenize(audio()), codes)
        torch.testing.assert_close(model.detokenize(codes)[:, :100], expected.audio.detach(), atol=1e-5, rtol=1e-4)


def test_a_few_steps_of_training_bring_the_sound_nearer() -> None:
    torch.manual_seed(0)
    model = WavTokenizerModel(replace(TINY, n_fft=48, encoder=EncoderConfig(strides=(2, 2, 3), filters=4, lstm_layers=1)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    tone = 0.5 * torch.sin(2 * torch.pi * 0.02 * torch.arange(2400)).expand(4, -1)
    losses = []
    for _ in range(30):
        out = model.train()(tone)
        loss = log_mel_l1(tone, out.audio) + out.commitment
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert all(p.grad is not None for p in model.parameters())
    assert losses[-1] < 0.7 * losses[0]


def test_the_inverse_transform_undoes_a_forward_one_away_from_the_ends() -> None:
    hop, n_fft, signal = 8, 32, audio(samples=160)
    window = torch.hann_window(n_fft)
    pad = (n_fft - hop) // 2
    frames = torch.nn.functional.pad(signal, (pad, pad)).unfold(1, n_fft, hop) * window
    back = inverse_stft(torch.fft.rfft(frames), window, hop)
    assert back.shape == signal.shape
    torch.testing.assert_close(back, signal, atol=1e-5, rtol=1e-4)


def test_the_inverse_transform_is_torchs_where_both_are_defined() -> None:
    hop, n_fft = 8, 32
    spectrum = torch.fft.rfft(torch.randn(2, 20, n_fft, generator=torch.Generator().manual_seed(0)))
    window = torch.hann_window(n_fft)
    ours = inverse_stft(spectrum, window, hop)
    theirs = torch.istft(spectrum.transpose(1, 2), n_fft, hop, window=window, center=True)  # cuts n_fft / 2 off each end
    shift = n_fft // 2 - (n_fft - hop) // 2
    np.testing.assert_allclose(ours[:, shift : shift + theirs.shape[1]], theirs, atol=1e-5)


def test_a_config_survives_json_and_refuses_what_is_not_one() -> None:
    assert WavTokenizerConfig.from_dict(json.loads(json.dumps(TINY.to_dict()))) == TINY
    good = TINY.to_dict()
    for bad, message in [
        (good | {"size": 3}, "unknown fields size"),
        (good | {"encoder": 3}, "EncoderConfig of the checkpoint's manifest is a int"),
        (good | {"backbone": good["backbone"] | {"width": 10**9}}, r"BackboneConfig.width .* is 1000000000: not possible"),
        (good | {"backbone": good["backbone"] | {"layers": True}}, "BackboneConfig.layers"),
        (good | {"encoder": good["encoder"] | {"strides": [2] * 100}}, "EncoderConfig.strides"),
        (good | {"encoder": good["encoder"] | {"strides": "wide"}}, "EncoderConfig.strides"),
        (good | {"encoder": good["encoder"] | {"filters": 0}}, "EncoderConfig.filters"),
        (good | {"codebook": good["codebook"] | {"decay": "0.99"}}, "CodebookConfig.decay"),
        (good | {"name": 7}, "WavTokenizerConfig.name"),
        (good | {"n_fft": 25}, "n_fft 25 is to be a multiple of the hop, 6 samples"),
        ({}, "incomplete or impossible"),
        ([], "is a list, not an object"),
    ]:
        with pytest.raises(AvbenchError, match=message):
            WavTokenizerConfig.from_dict(bad)


def test_it_trains_under_bfloat16_autocast_with_codes_and_sound_in_float32() -> None:
    model = make().train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(audio())
    (log_mel_l1(audio(samples=600), torch.nn.functional.pad(out.audio, (0, 500))) + out.commitment).backward()
    assert (out.audio.dtype, out.commitment.dtype) == (torch.float32, torch.float32)
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
