"""An audio codec as the loop sees it. Held-out clips pass whole, through the codes of the moving average and nothing else.

At step 0 the encoder's convolutions are rescaled so that their outputs have variance 1 on training crops.

Data-dependent initialisation (Salimans & Kingma 2016, arXiv 1602.07868, section 3). As initialised, weight-normalised convolutions shrink a
signal layer by layer. On arcade clips, silent and sounding frames then differed by 0.0001 in the latents and by 0.009 (r.m.s.) in what
WavTokenizer's decoder makes of them before its head, beside features of size 1; rescaled, by 0.8 and 0.95.
"""

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from avbench.nn.mel import MIN_LOG, log_mel
from avbench.train.budget import counted
from avbench.train.config import StageConfig
from avbench.train.data import INT16_SCALE, Clips, load_clips
from avbench.train.log import sheet, spectrogram
from avbench.train.optimizers import adamw_groups
from avbench.train.trainee import HeldOut, Objective, Trainee
from avbench.train.waveform.config import CodecStage, CodecTraining
from avbench.train.waveform.data import CodecData
from avbench.train.waveform.objective import CodecObjective

PICTURED = 4  # clips
PIXELS = 160  # height of a spectrogram
MAX_LOG = 2.5  # of a log-mel, white in pictures; full-scale sines reach 2.0


def evaluate(codec: nn.Module, clips: Clips, codebooks: tuple[int, ...], device: torch.device) -> HeldOut:
    """mr_stft, mel_l1 (natural-log units, 80 bands) and codes (share of the entries in use, mean over codebooks).

    codebooks: numbers of codebooks to be tried; names get "@2" and so on, but for the last one. (): all codebooks there are.
    """
    reference = torch.stack([torch.from_numpy(clips.reader.samples(index).copy()) for index in clips.indices]).float() * INT16_SCALE
    values: dict[str, float] = {}
    recon = reference
    for number in codebooks or (None,):
        suffix = "" if not codebooks or number == codebooks[-1] else f"@{number}"
        recon, codes = _through(codec, reference, () if number is None else (number,), device)
        values[f"mr_stft{suffix}"] = _mr_stft(reference, recon)
        values[f"mel_l1{suffix}"] = float((log_mel(recon) - log_mel(reference)).abs().mean())
        values["codes"] = _use(codes, codec)
    return HeldOut(values=values, picture=sheet(_rows(reference), _rows(recon)))


def _through(codec: Any, audio_BN: Tensor, codebooks: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Reconstruction and codes (B, K, L) of each clip."""
    codes = [codec.tokenize(clip[None].to(device), *codebooks) for clip in audio_BN]
    recon = torch.cat([codec.detokenize(code).float().cpu() for code in codes])
    return recon[:, : audio_BN.shape[1]].clamp(-1, 1), torch.cat(codes).cpu()


def _mr_stft(reference_BN: Tensor, recon_BN: Tensor) -> float:
    """Mean over clips, one at a time as the metric `mr_stft` has it; digitally silent references count."""
    from auraloss.freq import MultiResolutionSTFTLoss

    loss = MultiResolutionSTFTLoss()
    pairs = zip(reference_BN[:, None, None], recon_BN[:, None, None], strict=True)
    return float(torch.stack([loss(recon, reference) for reference, recon in pairs]).mean())


def _use(codes_BKL: Tensor, codec: Any) -> float:
    entries = codec.quantizer.config.entries
    return sum(len(book.unique()) / entries for book in codes_BKL.unbind(1)) / codes_BKL.shape[1]


def _rows(audio_BN: Tensor) -> list[Tensor]:
    shades = ((log_mel(audio_BN[:PICTURED]) - MIN_LOG) / (MAX_LOG - MIN_LOG)).clamp(0, 1)
    return [spectrogram(shade, PIXELS) for shade in shades]


TORCHS = (nn.Conv1d, nn.ConvTranspose1d)


@torch.no_grad()
def rescale(part: nn.Module, inputs: Tensor) -> Tensor:
    """`part(inputs)`, after its convolutions were rescaled in the order in which they run."""
    hooks = [module.register_forward_hook(_normalise) for module in part.modules() if _gain(module) is not None]
    try:
        return part(inputs)  # type: ignore[no-any-return]
    finally:
        for hook in hooks:
            hook.remove()


def _normalise(module: nn.Module, _: Any, output: Tensor) -> Tensor:
    """Each channel's mean goes into the bias, one scale for all channels into the gains."""
    channels = 1 if isinstance(module, TORCHS) else 2  # WavTokenizer's own convolutions have theirs last
    mean = output.mean((0, 3 - channels), keepdim=True)
    centred = output - mean
    scale = centred.square().mean().sqrt().clamp_min(1e-8)
    gain, bias = _gain(module), module.bias
    assert isinstance(gain, Tensor)
    assert isinstance(bias, Tensor)
    gain.div_(scale)
    bias.sub_(mean.flatten()).div_(scale)
    return centred / scale


def _gain(module: nn.Module) -> Tensor | None:
    """g of weight = g v / |v|; None for a module that is no such convolution."""
    if hasattr(module, "weight_g"):
        return module.weight_g  # type: ignore[return-value]
    if isinstance(module, TORCHS) and hasattr(module, "parametrizations"):
        return module.parametrizations.weight.original0  # type: ignore[union-attr, return-value]
    return None


class CodecTrainee(Trainee[CodecTraining, CodecData]):
    """models: "codec"."""

    def load_data(self, split: str, limit: int | None) -> CodecData:
        """Crops of the split's sound."""
        return CodecData(*load_clips(split, limit, self.config.eval_clips), self.config)

    def build_models(self) -> dict[str, nn.Module]:
        """Random weights; the codebooks wait for the first batch."""
        torch.manual_seed(self.config.seed)
        return {"codec": self.config.build()}

    def start(self, models: dict[str, nn.Module], data: CodecData) -> None:
        """The encoder's convolutions rescaled to training crops."""
        rescale(models["codec"].get_submodule("encoder"), data.first(self.config.start_clips)[:, None])

    def objective(self, models: dict[str, nn.Module], stage: int, device: torch.device) -> CodecObjective:
        """Everything is trained in every stage."""
        return CodecObjective(models["codec"], self.config, self.config.stages[stage])

    def optimizers(self, objective: Objective[Any], stage: StageConfig) -> list[Optimizer]:
        """AdamW, slower for the encoder."""
        assert isinstance(stage, CodecStage)
        optim, named = stage.optim, objective.trainable()
        encoder = [p for name, p in named if name.startswith("codec.encoder.")]
        decoder = [p for name, p in named if not name.startswith("codec.encoder.")]
        rates = ((encoder, optim.adam * optim.encoder), (decoder, optim.adam))
        return [adamw_groups([{"params": part, "lr": rate, "weight_decay": optim.weight_decay} for part, rate in rates], optim)]

    def evaluate(self, models: dict[str, nn.Module], data: CodecData, device: torch.device) -> HeldOut:
        """MR-STFT, mel L1, codebook use; a picture."""
        return evaluate(models["codec"], data.held_out, self.config.codebooks, device)

    def export(self, out: Path, models: dict[str, nn.Module], provenance: dict[str, Any]) -> None:
        """A checkpoint of the codec's tokenizer; in bfloat16 where the recipe says so, but for the codebooks, which are buffers."""
        codec = models["codec"]
        if self.config.export_dtype == "bfloat16":
            codec = copy.deepcopy(codec)
            for parameter in codec.parameters():
                parameter.data = parameter.data.bfloat16()
        self.config.save(out, codec, provenance)

    def load(self, folder: Path, models: dict[str, nn.Module]) -> None:
        """Codebooks included: they wait for no first batch."""
        self.config.load(folder, models["codec"])

    def flops_per_clip(self, stage: int) -> float:
        """Of one crop through encoder and decoder, with the backward pass; the search in the codebooks is not counted."""
        with torch.random.fork_rng():
            codec = self.config.build().eval()  # on the CPU: transformers' convolutions ask tensors for their strides, which meta refuses
        return counted(lambda: codec(torch.zeros(1, self.config.crop_samples)).audio)
