"""Compare our LARP with the official code, and write tests/golden/larp.json from the latter.

    python tests/golden/make_larp.py CHECKOUT [--size tiny|large]

CHECKOUT: a clone of https://github.com/hywang66/LARP (written with commit 8aaed63, timm 1.0.9, easydict 1.14, einops 0.8). The official
model is filled with weights that follow from their names, saved in both published forms by the official means (save_pretrained; a
.pth with EasyDict settings), and loaded by ours. Codes must be equal and reconstructions within 1e-4. --size large writes nothing; it found
0 of 1,024 codes to differ, and reconstructions by at most 5e-6.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "helpers"))

from official_larp import official_args, tensor, video  # noqa: E402

from avbench.tokenizers.larp.inference import optimise  # noqa: E402
from avbench.tokenizers.larp.official import load_official  # noqa: E402

TOLERANCE = 1e-4


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--size", choices=("tiny", "large"), default="tiny")
    arguments = parser.parse_args()
    sys.path.insert(0, str(arguments.checkout))
    official = official_model(arguments.size)
    clips = video(arguments.size, clips=2 if arguments.size == "tiny" else 1)
    codes, recon, margin = official_pass(official, clips)
    for form in ("hub", "pth", "pth without prior"):
        path = saved(official, arguments.size, form)
        compare(form, path, clips, codes, recon)
        shutil.rmtree(path if path.is_dir() else path.parent)
    print(f"smallest margin between the best and the second entry: {margin:.2g} in cosine; codes in use: {codes.unique().numel()}")
    if arguments.size == "tiny":
        write(official, codes, recon)


def official_model(size: str) -> Any:
    from models.larp_tokenizer import LARPTokenizer

    model = LARPTokenizer(**official_args(size)).eval()
    model.load_state_dict({name: tensor(name, tuple(value.shape)) for name, value in model.state_dict().items()})
    model.set_vq_eval_deterministic(True)
    return model


@torch.inference_mode()
def official_pass(model: Any, clips: Tensor) -> tuple[Tensor, Tensor, float]:
    """Codes, reconstruction (B, T, 3, H, W) before the clamp to [0, 1], and the smallest margin of a choice."""
    encoded = model.encode(clips.transpose(1, 2))
    z, book = encoded["unregularized_z"], encoded["emb"]
    best = torch.einsum("bld,nd->bln", z, book).topk(2, dim=-1).values
    recon = model.decode(encoded["encoded"]).transpose(1, 2)
    return encoded["bottleneck_rep"], recon, float((best[..., 0] - best[..., 1]).min())


def saved(model: Any, size: str, form: str) -> Path:
    from easydict import EasyDict

    folder = Path(tempfile.mkdtemp())
    if form == "hub":
        model.save_pretrained(folder)
        return folder
    state = model.state_dict()
    if form.endswith("without prior"):
        state = {name: value for name, value in state.items() if not name.startswith("prior_model.")}
    settings = EasyDict({"model": {"name": "larp_tokenizer", "args": official_args(size)}, "max_epoch": 150, "env": {"save_dir": "x"}})
    content = {"model": {**settings["model"], "sd": state}, "epoch": 150, "cfg": settings, "wandb_run_id": None}
    torch.save(content, folder / "larp.pth")
    return folder / "larp.pth"


@torch.inference_mode()
def compare(form: str, path: Path, clips: Tensor, codes: Tensor, recon: Tensor) -> None:
    model = load_official(path).model
    for layers in ("plain", "fast"):
        if layers == "fast":
            optimise(model)
        ours = torch.cat([model.tokenize("video", clip[None]) for clip in clips])
        other = int((ours != codes).sum())
        worst = float((model.decode("video", model.bottleneck.quantizer.decode(codes)) - recon).abs().max())
        print(f"{form}, {layers} layers: {other} of {codes.numel()} codes differ, reconstruction by at most {worst:.2g}")
        assert other == 0
        assert worst < TOLERANCE


def write(model: Any, codes: Tensor, recon: Tensor) -> None:
    found = {
        "shapes": {name: list(value.shape) for name, value in model.state_dict().items()},
        "codes": codes.tolist(),
        "recon": [round(value, 6) for value in recon.flatten()[::97].tolist()],
        "recon_mean": recon.mean().item(),
        "positions": {name: [round(v, 6) for v in table.flatten()[::53].tolist()] for name, table in formulas().items()},
    }
    (HERE / "larp.json").write_text(json.dumps(found, indent=None, separators=(",", ":")) + "\n")


def formulas() -> dict[str, Tensor]:
    """The official fixed tables of a fresh model."""
    from models.larp_tokenizer import LARPTokenizer

    state = LARPTokenizer(**official_args("tiny")).state_dict()
    return {name: state[name] for name in ("encoder_patch_pe", "decoder_latent_pe", "decoder_patch_query_embed")}


if __name__ == "__main__":
    main()
