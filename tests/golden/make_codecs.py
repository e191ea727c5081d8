"""Writes encodec.json, encodec48.json, dac.json and snac.json with the authors' code: python tests/golden/make_codecs.py [NAME ...]

Needs `pip install encodec==0.1.1 snac==1.2.1` and `pip install --no-deps descript-audio-codec==1.0.0` in an environment of their own.
Each file: keys and shapes of a model (EnCodec's is the published one, the others are small), weights that follow from the keys
(tests/helpers/codec_files.py), the codes of a sound, and some values and the deviation of what is decoded from them.
"""

import json
import sys
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import torch
from torch import Tensor, nn

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "helpers"))

from codec_files import GAINS, NUM_SAMPLES, codec_state, sound, stereo  # noqa: E402

DAC_KWARGS = {"encoder_dim": 4, "encoder_rates": [2, 4, 5, 8], "decoder_dim": 32, "decoder_rates": [8, 5, 4, 2]}
DAC_KWARGS |= {"n_codebooks": 8, "codebook_size": 64, "codebook_dim": 8, "quantizer_dropout": 0.5, "sample_rate": 24_000}
SNAC_CONFIG = {"sampling_rate": 24_000, "encoder_dim": 4, "encoder_rates": [2, 4, 8, 8], "decoder_dim": 32, "decoder_rates": [8, 8, 4, 2]}
SNAC_CONFIG |= {"attn_window_size": None, "codebook_size": 64, "codebook_dim": 8, "vq_strides": [4, 2, 1], "noise": True, "depthwise": True}


def encodec() -> dict[str, Any]:
    from encodec import EncodecModel

    model = EncodecModel.encodec_model_24khz(pretrained=False)
    shapes = _load(model, "encodec")
    model.set_target_bandwidth(6.0)
    codes = model.encode(sound(NUM_SAMPLES))
    return {"shapes": shapes, "codes": codes[0][0][0].tolist(), **_described(model.decode(codes))}


def encodec48() -> dict[str, Any]:
    from encodec import EncodecModel

    model = EncodecModel.encodec_model_48khz(pretrained=False)
    shapes = _load(model, "encodec")
    model.set_target_bandwidth(6.0)
    frames = model.encode(stereo())
    codes = torch.cat([codes for codes, _ in frames], dim=2)
    samples = model.decode(frames)[0, :, : stereo().shape[2]]
    found = {"every_500th": samples[:, ::500].tolist(), "std": float(samples.std())}
    return {"shapes": shapes, "codes": codes[0].tolist(), "scales": [float(scale) for _, scale in frames], **found}


def dac() -> dict[str, Any]:
    _stand_in_for_audiotools()
    from dac.model.dac import DAC

    full = {key: value for key, value in DAC_KWARGS.items() if key not in ("encoder_dim", "decoder_dim", "n_codebooks", "codebook_size")}
    official = DAC(**full, n_codebooks=32).state_dict()
    model = DAC(**DAC_KWARGS)
    shapes = _load(model, "dac")
    z, codes, *_ = model.encode(model.preprocess(sound(NUM_SAMPLES), 24_000))
    plain = sum(value.numel() for key, value in official.items() if not key.endswith("weight_g"))
    return {"kwargs": DAC_KWARGS, "official_weights": plain, "shapes": shapes, "codes": codes[0].tolist(), **_described(model.decode(z))}


def snac() -> dict[str, Any]:
    from snac import SNAC

    model = SNAC(**SNAC_CONFIG)
    shapes = _load(model, "snac")
    codes = model.encode(sound(NUM_SAMPLES))
    torch.manual_seed(0)  # of the noise that the decoder adds
    return {"config": SNAC_CONFIG, "shapes": shapes, "codes": [level[0].tolist() for level in codes], **_described(model.decode(codes))}


def _load(model: nn.Module, name: str) -> dict[str, list[int]]:
    shapes = {key: list(value.shape) for key, value in model.state_dict().items()}
    model.load_state_dict(codec_state(shapes, GAINS[name]))
    model.eval()
    return shapes


def _described(samples: Tensor) -> dict[str, Any]:
    samples = samples[0, 0, :NUM_SAMPLES]
    return {"every_500th": samples[::500].tolist(), "std": float(samples.std())}


def _stand_in_for_audiotools() -> None:
    """descript-audiotools reads and writes files, which is not needed here, and cannot be installed beside current packages."""
    names = ("audiotools", "audiotools.core", "audiotools.ml", "audiotools.ml.decorators", "argbind")
    sys.modules |= {name: MagicMock() for name in names}
    base = type("BaseModel", (nn.Module,), {"INTERN": [], "EXTERN": []})
    sys.modules["audiotools.ml"].BaseModel = sys.modules["audiotools"].ml.BaseModel = base  # type: ignore[attr-defined]


def main() -> None:
    torch.set_grad_enabled(False)
    for make in (encodec, encodec48, dac, snac):
        if sys.argv[1:] and make.__name__ not in sys.argv[1:]:
            continue
        (HERE / f"{make.__name__}.json").write_text(json.dumps(make(), separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
