"""Writes wavtokenizer.json with the authors' code: python tests/golden/make_wavtokenizer.py CHECKOUT (needs einops to import).

Keys and shapes of a small model of the published form, weights that follow from the keys (tests/helpers/codec_files.py), and the codes,
the first samples and the deviation of what it makes of `sound(NUM_SAMPLES)`.
"""

import json
import sys
from pathlib import Path

import torch

HERE = Path(__file__).parent
sys.path[:0] = [sys.argv[1], str(HERE.parent / "helpers")]

from codec_files import codec_state, sound  # noqa: E402
from decoder.feature_extractors import EncodecFeatures  # noqa: E402
from decoder.heads import ISTFTHead  # noqa: E402
from decoder.models import VocosBackbone  # noqa: E402
from decoder.pretrained import WavTokenizer  # noqa: E402
from encoder.modules import SEANetDecoder, SEANetEncoder  # noqa: E402
from encoder.quantization import ResidualVectorQuantizer  # noqa: E402

NUM_SAMPLES, WIDTH, DIM, RATIOS = 1000, 64, 16, [5, 3, 2]
SEANET = {"causal": False, "norm": "weight_norm", "lstm": 2, "dimension": DIM, "n_filters": 4, "true_skip": False, "ratios": RATIOS}


def main() -> None:
    """Strides of 2, 3 and 5, hop 30; odd and even ones pad differently."""
    features = EncodecFeatures(bandwidths=[6.6] * 4, num_quantizers=1, dowmsamples=RATIOS, vq_bins=64, vq_kmeans=5)
    features.encodec.encoder, features.encodec.decoder = SEANetEncoder(**SEANET), SEANetDecoder(**SEANET)
    features.encodec.quantizer = ResidualVectorQuantizer(dimension=DIM, n_q=1, bins=64, kmeans_init=True)
    backbone = VocosBackbone(input_channels=DIM, dim=WIDTH, intermediate_dim=96, num_layers=2, adanorm_num_embeddings=4)
    model = WavTokenizer(features, backbone, ISTFTHead(dim=WIDTH, n_fft=120, hop_length=30)).eval()
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    state = codec_state(shapes, 1.0) | {"head.istft.window": torch.hann_window(120)}
    state["feature_extractor.encodec.quantizer.vq.layers.0._codebook.inited"] = torch.ones(1)
    model.load_state_dict(state)
    bandwidth = torch.tensor([0])
    latents, codes = model.encode_infer(sound(NUM_SAMPLES)[0], bandwidth_id=bandwidth)
    audio = model.decode(latents, bandwidth_id=bandwidth)[0]
    assert len(codes.unique()) > 8
    outputs = {"codes": codes.flatten().tolist(), "first": audio[:40].tolist(), "last": audio[-40:].tolist(), "std": float(audio.std())}
    content = {"shapes": shapes, "num_samples": NUM_SAMPLES, "length": len(audio), "outputs": outputs}
    (HERE / "wavtokenizer.json").write_text(json.dumps(content, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
