"""Writes dists.json with the authors' code: python tests/golden/make_dists.py FOLDER, where DISTS_pytorch 0.1's wheel is unpacked.

Its trunk is filled from the catalog's VGG16, as torchvision's own file would need the open web (the values are the same).
"""

import json
import sys
from pathlib import Path

import torch
import torchvision

HERE = Path(__file__).parent
FOLDER = Path(sys.argv[1])
sys.path[:0] = [str(FOLDER), str(HERE.parents[1])]

from avbench import weights  # noqa: E402
from tests.metrics.test_dists import pictures  # noqa: E402

BUILD = torchvision.models.vgg16


def trunk(pretrained: bool = True) -> torch.nn.Module:
    """In place of `torchvision.models.vgg16(pretrained=True)`."""
    model = BUILD(weights=None)
    arrays = weights.load_array_pickle(weights.path("vgg16"), weights.CATALOG["vgg16"].sha256 or "")["VGG16_0"]
    for number, layer in enumerate(layer for layer in model.features if isinstance(layer, torch.nn.Conv2d)):
        layer.weight.data = torch.from_numpy(arrays[f"Conv_{number}"]["kernel"]).permute(3, 2, 0, 1).contiguous()
        layer.bias.data = torch.from_numpy(arrays[f"Conv_{number}"]["bias"])
    return model


def main() -> None:
    """A value for each pair of `pictures`."""
    from DISTS_pytorch import DISTS_pt

    DISTS_pt.models.vgg16 = trunk
    sys.prefix = str(FOLDER / "DISTS_pytorch")  # where the authors look for their weights
    model = DISTS_pt.DISTS().eval()
    values = {name: model(*pair).item() for name, pair in pictures().items()}
    (HERE / "dists.json").write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    main()
