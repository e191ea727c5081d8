"""Writes cav_mae_sync.json with the authors' code: python tests/golden/make_cav_mae_sync.py CHECKOUT/src (needs timm 0.4.5 to import).

Keys and shapes of a small model, weights that follow from the keys (tests/helpers/keyed_weights.py), and the first values and the
deviation of what `forward_feat` gives for the inputs that tests/test_cav_mae_sync.py draws.
"""

import json
import sys
from pathlib import Path

import torch

HERE = Path(__file__).parent
sys.path[:0] = [sys.argv[1], str(HERE.parent / "helpers")]

from keyed_weights import keyed_state  # noqa: E402
from models.cav_mae_sync import CAVMAE  # noqa: E402


def main() -> None:
    """Small, but of the published form: eleven blocks a stream and one joint block."""
    sizes = {"img_size": 32, "audio_length": 48, "embed_dim": 24, "num_heads": 3, "decoder_embed_dim": 16, "decoder_depth": 1}
    model = CAVMAE(**sizes, decoder_num_heads=2, num_register_tokens=2, cls_token=True, contrastive_heads=False).eval()
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    model.load_state_dict(keyed_state(shapes))
    generator = torch.Generator().manual_seed(0)
    sound, picture = torch.randn(2, 48, 128, generator=generator), torch.randn(2, 3, 32, 32, generator=generator)
    with torch.no_grad():
        audio, video, *_ = model.forward_feat(sound, picture)
    outputs = {name: {"first": x[0, :, :6].flatten().tolist(), "std": float(x.std())} for name, x in (("a", audio), ("v", video))}
    content = {"shapes": {f"module.{key}": shape for key, shape in shapes.items()}, "outputs": outputs}
    (HERE / "cav_mae_sync.json").write_text(json.dumps(content, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
