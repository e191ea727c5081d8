"""Writes bigvgan.json with the authors' code: python tests/golden/make_bigvgan.py CHECKOUT

Three small models (as version 1, as version 2, and with the other block and activation): their configs, keys and shapes; weights that
follow from the keys (tests/helpers/keyed_weights.py); samples of what they make of the mel that tests/test_bigvgan.py draws; the taps.
"""

import json
import sys
from pathlib import Path

import torch

HERE = Path(__file__).parent
sys.path[:0] = [sys.argv[1], str(HERE.parent / "helpers")]

from bigvgan import BigVGAN  # noqa: E402
from env import AttrDict  # noqa: E402
from keyed_weights import keyed_state  # noqa: E402

MEL = {"num_mels": 80, "sampling_rate": 22050, "n_fft": 1024, "win_size": 1024, "hop_size": 256, "fmin": 0, "fmax": 8000}
NET = {
    "upsample_rates": [8, 8, 2, 2],
    "upsample_kernel_sizes": [16, 16, 4, 4],
    "upsample_initial_channel": 32,
    "resblock_kernel_sizes": [3, 7],
    "resblock_dilation_sizes": [[1, 3], [1, 5]],
    "resblock": "1",
    "activation": "snakebeta",
    "snake_logscale": True,
}
MODELS = {
    "v1": NET,
    "v2": NET | {"use_tanh_at_final": False, "use_bias_at_final": False},
    "other": NET | {"resblock": "2", "activation": "snake", "snake_logscale": False},
}
PLACES = [0, 1, 2, 700, 1500, 2302, 2303]


def golden(config: dict) -> dict:
    """One model's entry."""
    model = BigVGAN(AttrDict(config)).eval()
    state = model.state_dict()
    shapes = {key: tuple(value.shape) for key, value in state.items() if not key.endswith("filter")}
    model.load_state_dict(state | keyed_state(shapes))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        samples = model(torch.randn(1, 80, 9, generator=generator))[0, 0]
    filters = sorted(key for key in state if key.endswith("filter"))
    return {
        "config": config,
        "shapes": shapes,
        "filters": filters,
        "places": PLACES,
        "samples": samples[PLACES].tolist(),
        "std": float(samples.std()),
        "taps": state[filters[0]].flatten().tolist(),
    }


if __name__ == "__main__":
    content = {name: golden(MEL | config) for name, config in MODELS.items()}
    (HERE / "bigvgan.json").write_text(json.dumps(content, separators=(",", ":")) + "\n")
