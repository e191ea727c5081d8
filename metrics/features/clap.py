"""CLAP (Wu et al., ICASSP 2023, arXiv 2211.06687): sound, or a text -> a unit vector in a common space.

The network is `transformers.ClapModel`, which the authors' file 630k-audioset-best.pt (HTS-AT tiny without fusion, RoBERTa) is put into.
The authors' package laion-clap is not used: it fetches RoBERTa behind the user's back and needs wandb, webdataset and h5py to import.
What it listens to and reads is made as its authors make it, for whole batches on any device. B clips, N samples.
"""

import codecs
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import librosa
import numpy as np
import torch
import torchaudio
from torch import Tensor
from torch.nn import functional as F

from avbench import weights
from avbench.artifact import fill
from avbench.errors import AvbenchError
from avbench.weights.load import tensors

SAMPLE_RATE = 48_000  # Hz
NUM_SAMPLES = 480_000  # 10 s
FFT, HOP = 1024, 480
BANDS, MIN_HZ, MAX_HZ = 64, 50, 14_000
MIN_POWER = 1e-10
MAX_TOKENS = 77
# What roberta-base makes of a known text; another vocabulary gives other numbers.
KNOWN_TEXT, KNOWN_IDS = "Hello world", [0, 31414, 232, 2]


def ten_seconds(audio: Tensor, sample_rate: int) -> Tensor:
    """(B, 480000) at 48 kHz of sound (B, C, N) in [-1, 1]: channels averaged, cut to 16 bits, repeated as often as it fits, then zeros.

    Of more than 10 s the first 10 count; the authors take a random part. Raises ValueError where there is no sound.
    """
    mono = torchaudio.functional.resample(audio.mean(1), sample_rate, SAMPLE_RATE)[:, :NUM_SAMPLES]
    if mono.shape[-1] == 0:
        raise ValueError("CLAP needs sound, this clip has no sample")
    quantised = (mono.clamp(-1, 1) * 32_767).trunc() / 32_767
    repeated = quantised.repeat(1, NUM_SAMPLES // mono.shape[-1])
    return F.pad(repeated, (0, NUM_SAMPLES - repeated.shape[-1]))


def log_mel(samples: Tensor) -> Tensor:
    """Mel power in dB (B, 1001, 64) of 10 s at 48 kHz (B, 480000): centred frames, reflected ends, periodic Hann window, Slaney's bands."""
    window = torch.hann_window(FFT, device=samples.device)
    power = torch.stft(samples, FFT, HOP, window=window, pad_mode="reflect", return_complex=True).abs().square()
    return 10 * (power.transpose(1, 2) @ mel_weights().to(samples.device)).clamp_min(MIN_POWER).log10()


@cache
def mel_weights() -> Tensor:
    """(513, 64) bands of 50 Hz to 14 kHz."""
    return torch.from_numpy(librosa.filters.mel(sr=SAMPLE_RATE, n_fft=FFT, n_mels=BANDS, fmin=MIN_HZ, fmax=MAX_HZ).T.copy())


def as_text(label: str) -> str:
    """A class name as it is read out: `space_invaders` -> `space invaders`."""
    return label.replace("_", " ").strip()


def load_vocabulary(path: Path) -> Any:
    """RoBERTa's byte pairs (a `tokenizers.Tokenizer`) from tokenizer.json. Raises AvbenchError for a file of something else."""
    from tokenizers import Tokenizer

    try:
        vocabulary = Tokenizer.from_file(str(path))
        found = vocabulary.encode(KNOWN_TEXT).ids
    except Exception as error:  # the library raises plain Exception for a damaged file
        raise AvbenchError(f"{path} is not a tokenizer.json: {error}") from error
    if found != KNOWN_IDS:
        raise AvbenchError(f'{path} is not that of roberta-base: "{KNOWN_TEXT}" became {found[:8]}, not {KNOWN_IDS}')
    vocabulary.enable_truncation(MAX_TOKENS)
    return vocabulary


if TYPE_CHECKING:
    from transformers import ClapConfig, ClapModel

WEIGHTS, VOCABULARY = "clap", "roberta-base-vocabulary"
CLIPS_PER_CHUNK = {"cpu": 4, "cuda": 64}  # that pass the network together; bounds the memory
# Heads of training, the front end (ours is the same), and what follows from the sizes.
NOT_USED = re.compile(
    r"(audio|text)_transform\.|logit_scale_|audio_branch\.(tscam_conv|head|spectrogram_extractor|logmel_extractor)\."
    r"|.*(relative_position_index|attn_mask|num_batches_tracked|position_ids|token_type_ids)$"
)
RENAMED = (  # the authors' names -> transformers', in this order
    ("text_branch.", "text_model."),
    ("_projection.0.", "_projection.linear1."),
    ("_projection.2.", "_projection.linear2."),
    ("audio_branch.", "audio_model.audio_encoder."),
    (".bn0.", ".batch_norm."),
    (".norm1.", ".layernorm_before."),
    (".norm2.", ".layernorm_after."),
    (".mlp.fc1.", ".intermediate.dense."),
    (".mlp.fc2.", ".output.dense."),
    (".attn.proj.", ".attention.output.dense."),
    (".attn.", ".attention.self."),
)


def published_config() -> "ClapConfig":
    """Sizes of the published file. transformers' own defaults differ in RoBERTa's eps (1e-12 for 1e-5)."""
    from transformers import ClapConfig

    return ClapConfig(text_config={"layer_norm_eps": 1e-5}, audio_config={})


def load(path: Path, config: "ClapConfig | None" = None) -> "ClapModel":
    """The model of an authors' file {"state_dict", ...}, frozen, float32, on the CPU. Raises AvbenchError where it does not fit."""
    from transformers import ClapModel

    content = weights.load_torch(path, safe_globals=_admitted())
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise AvbenchError(f"{path} is not a CLAP file: no state_dict")
    with torch.random.fork_rng(devices=[]):  # it makes random weights that are overwritten
        model = ClapModel(config or published_config())
    own = {key: torch.zeros(()) for key in ("logit_scale_a", "logit_scale_t")}  # of training only
    fill(model, own | _renamed(tensors(state, path)), path, "CLAP without fusion")
    return model.eval().requires_grad_(False)


def _admitted() -> list[Any]:
    """NumPy's numbers, which a training state beside the weights may hold; their module moved between NumPy 1 and 2."""
    rebuild = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64)]
    return [rebuild, (rebuild, "numpy.core.multiarray.scalar"), np.dtype, *kinds, codecs.encode]


def _renamed(state: Mapping[str, Any]) -> dict[str, Any]:
    """The authors' names -> transformers'; one of another form stays, and is refused as unknown."""
    found: dict[str, Any] = {}
    for key, value in state.items():
        if NOT_USED.match(key):
            continue
        for old, new in RENAMED:
            key = key.replace(old, new)
        if ".self.qkv." in key and isinstance(value, Tensor) and len(value) % 3 == 0:
            names = [key.replace(".qkv.", f".{part}.") for part in ("query", "key", "value")]
            found |= dict(zip(names, value.chunk(3), strict=True))
        else:
            found[key] = value
    return found


def embed_audio(model: "ClapModel", audio: Tensor, sample_rate: int) -> Tensor:
    """Unit vectors (B, 512) of sound (B, C, N) in [-1, 1]."""
    chunks = audio.float().split(CLIPS_PER_CHUNK.get(audio.device.type, 4))
    # TF32 would make the numbers depend on the machine.
    with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
        pooled = [model.audio_model(log_mel(ten_seconds(chunk, sample_rate))[:, None]).pooler_output for chunk in chunks]
        return F.normalize(model.audio_projection(torch.cat(pooled)), dim=-1)


def embed_ids(model: "ClapModel", ids: list[int]) -> Tensor:
    """Unit vector (512,) of one text's token ids. Texts are never padded, so none depends on its neighbours."""
    given = torch.tensor([ids], device=next(model.parameters()).device)
    with torch.inference_mode():
        return F.normalize(model.text_projection(model.text_model(given).pooler_output), dim=-1)[0]
