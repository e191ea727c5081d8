"""Writes clap.json with the authors' code: python tests/golden/make_clap.py LAION_CLAP

An unpacked laion-clap 1.1.5; needs transformers, torchlibrosa, ftfy. Keys and shapes of a small model of the published form (HTS-AT without
fusion, RoBERTa), weights that follow from the keys (tests/helpers/keyed_weights.py), embeddings of a sound that the authors' own
pre-processing made and of a padded text, and log-mel values of that sound.
"""

import json
import sys
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import torch
from transformers import RobertaConfig, RobertaModel

HERE = Path(__file__).parent
sys.path[:0] = [sys.argv[1], f"{sys.argv[1]}/laion_clap", str(HERE.parent / "helpers")]
for absent in ("h5py", "webdataset", "wget", "braceexpand", "laion_clap.training.params", "laion_clap", "laion_clap.training", "wandb"):
    sys.modules.setdefault(absent, MagicMock())  # for reading data sets, which nothing here does

from clap_module import model as official  # noqa: E402
from clap_module.htsat import HTSAT_Swin_Transformer  # noqa: E402
from clip_with_sound import chord  # noqa: E402
from keyed_weights import keyed_state  # noqa: E402
from training.data import float32_to_int16, get_audio_features, int16_to_float32  # noqa: E402

TEXT = {"hidden_size": 768, "num_hidden_layers": 1, "num_attention_heads": 12, "intermediate_size": 32, "vocab_size": 100}
TEXT |= {"max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5, "pad_token_id": 1}
AUDIO = {"embed_dim": 8, "depths": [2, 1, 1, 1], "num_heads": [1, 2, 4, 8], "window_size": 8}
CONFIG = json.loads((Path(sys.argv[1]) / "laion_clap/clap_module/model_configs/HTSAT-tiny.json").read_text())
IDS = [0, 31, 7, 55, 2]


def small() -> official.CLAP:
    """CLAP of HTSAT-tiny and roberta, with small sizes."""
    RobertaModel.from_pretrained = lambda name: RobertaModel(RobertaConfig(**TEXT))
    official.create_htsat_model = lambda config, *_: HTSAT_Swin_Transformer(
        spec_size=256, patch_size=4, patch_stride=(4, 4), num_classes=5, config=config, **AUDIO
    )
    text_cfg = {**CONFIG["text_cfg"], "model_type": "roberta"}
    return official.CLAP(embed_dim=64, audio_cfg=CONFIG["audio_cfg"], text_cfg=text_cfg, joint_embed_shape=12).eval()


def main() -> None:
    """The sound is at 48 kHz already, so that no resampler is in the way."""
    model = small()
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    derived = ("spectrogram_extractor", "logmel_extractor", "relative_position_index", "attn_mask", "num_batches_tracked", "position_ids")
    kept = {key: value for key, value in model.state_dict().items() if any(name in key for name in derived)}
    model.load_state_dict(keyed_state(shapes) | kept | {key: 1 + 0 * v for key, v in model.state_dict().items() if "running_var" in key})
    quantised = torch.from_numpy(int16_to_float32(float32_to_int16(chord(48_000)[0, 0].numpy()))).float()
    sample: dict[str, Any] = get_audio_features({}, quantised, 480_000, "rand_trunc", "repeatpad", CONFIG["audio_cfg"])
    ids = torch.tensor([IDS + [1] * (77 - len(IDS))])
    with torch.no_grad():
        audio = model.get_audio_embedding([sample])[0]
        text = model.get_text_embedding({"input_ids": ids, "attention_mask": (ids != 1).long()})[0]
        branch = model.audio_branch
        mel = branch.logmel_extractor(branch.spectrogram_extractor(sample["waveform"][None]))[0, 0]
    points = [(t, m, round(float(mel[t, m]), 4)) for t, m in ((0, 0), (100, 5), (333, 20), (409, 33), (700, 50), (1000, 63))]
    content = {"shapes": shapes, "audio": audio.tolist(), "text": text.tolist(), "ids": IDS, "log_mel": points}
    (HERE / "clap.json").write_text(json.dumps(content, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
