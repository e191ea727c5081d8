"""Scenes: one token names what a clip shows throughout, and every other token of the stream is read in its light. Ours, not the paper's.

A stream with scenes has a bank of V pictures (means of clusters of training clips' mean frames; of mels, mean columns). The clip's scene
is its first token; the network sees what the scene leaves of the clip, and encodes that. Scenes fall into G groups (of arcade, about its
games). A group has a basis and a centre, through which its latents pass beside the shared bottleneck, and offsets of the shared codebook's
entries: entry k of group g is share * e_k + coarse[g, k // F] + fine[g, k % F], so that one codebook of few numbers says what this
game's sprites look like. `share` is learned, from 0: how much of the shared bottleneck and codebook the stream uses as well.

B clips, L tokens, D width, C code width, K <= C channels of it that groups know of, V scenes, G groups, E codebook entries, F fine
offsets.
"""

import io

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avbench.errors import AvbenchError
from avbench.tokenizers.avtok.config import StreamConfig

COARSE = 4  # pixels a side that choosing a scene takes together


class Scenes(nn.Module):
    """The bank of one stream, its groups, and what a group knows of the latents.

    `packed` holds the pictures as lossless WebP, one after the other: a tenth of their size. `scale` is the residual stream's unit
    (linear_init.SCALE), so that basis and centre are in units of latents.
    """

    def __init__(self, stream: StreamConfig, width: int, code_width: int, entries: int, scale: float) -> None:
        """width: D; code_width: C; entries: E."""
        super().__init__()
        if stream.scenes > entries or entries % stream.fine:
            raise AvbenchError(f"{stream.scenes} scenes and {stream.fine} fine offsets do not fit a codebook of {entries} entries")
        self.stream, self.scale, self.spare = stream, scale, code_width - stream.scene_width
        if self.spare < 0:
            raise AvbenchError(f"scenes of {stream.scene_width} channels do not fit codes of {code_width}")
        self.share = nn.Parameter(torch.zeros(()))
        self.register_buffer("packed", torch.zeros(stream.scene_bytes, dtype=torch.uint8))
        self.register_buffer("sizes", torch.zeros(stream.scenes, dtype=torch.int64))
        self.register_buffer("group", torch.zeros(stream.scenes, dtype=torch.int64))
        self.basis = nn.Parameter(torch.zeros(stream.groups, width, stream.scene_width))
        self.centre = nn.Parameter(torch.zeros(stream.groups, width))
        self.coarse = nn.Parameter(torch.zeros(stream.groups, entries // stream.fine, stream.scene_width))
        self.fine = nn.Parameter(torch.zeros(stream.groups, stream.fine, stream.scene_width))
        self.packed: Tensor
        self.sizes: Tensor
        self.group: Tensor
        self._pictures: Tensor | None = None
        self._keys: Tensor | None = None

    def set_pictures(self, pictures_VCHW: Tensor, group_V: Tensor) -> None:
        """Take a bank: uint8 pictures and the group of each."""
        files = [pack(picture) for picture in pictures_VCHW]
        device = self.packed.device
        self.packed = torch.frombuffer(bytearray(b"".join(files)), dtype=torch.uint8).to(device)
        self.sizes = torch.tensor([len(file) for file in files], device=device)
        self.group = group_V.to(device)
        self._pictures = self._keys = None

    def pictures(self) -> Tensor:
        """uint8 (V, C, H, W), unpacked once. Raises AvbenchError where the bank is damaged."""
        if self._pictures is None or self._pictures.device != self.packed.device:
            data = self.packed.cpu().numpy().tobytes()
            if int(self.sizes.sum()) != len(data):
                raise AvbenchError(f"the bank of scenes is damaged: {len(data)} bytes, its sizes say {int(self.sizes.sum())}")
            ends = self.sizes.cpu().cumsum(0).tolist()
            files = [data[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
            self._pictures = torch.stack([unpack(file, self.stream) for file in files]).to(self.packed.device)
        return self._pictures

    def choose(self, x_BTCHW: Tensor) -> Tensor:
        """int64 (B,): each clip's scene, the nearest in means of 4 x 4 pixels. x: [0, 1] or uint8."""
        if self._keys is None or self._keys.device != self.packed.device:
            self._keys = _key(self.pictures().float() / 255)
        key = _key(summary(x_BTCHW, self.stream))
        return (key @ self._keys.t() - 0.5 * self._keys.square().sum(1)).argmax(1)

    def picture(self, scene_B: Tensor) -> Tensor:
        """(B, T, C, H, W) float32 in [0, 1]: the scene throughout."""
        picture = self.pictures()[scene_B].float() / 255
        t, h, w = self.stream.size
        return picture[:, None].expand(-1, t, -1, h, w)

    def inward(self, x_BLD: Tensor, scene_B: Tensor) -> Tensor:
        """What the group adds to the latents: (B, L, C), float32."""
        group = self.group[scene_B]
        return F.pad((x_BLD.float() / self.scale - self.centre[group][:, None].float()) @ self.basis[group].float(), (0, self.spare))

    def outward(self, latents_BLC: Tensor, scene_B: Tensor) -> Tensor:
        """What the group adds to the decoder's input: (B, L, D), float32; `inward`'s inverse on the basis."""
        group = self.group[scene_B]
        known = latents_BLC[..., : self.stream.scene_width]
        return self.scale * (known @ self.basis[group].float().transpose(1, 2) + self.centre[group][:, None].float())

    def entries(self, scene_B: Tensor, shared_EC: Tensor) -> Tensor:
        """(B, E, C): the codebook as the clips' groups read it."""
        group = self.group[scene_B]
        offsets = (self.coarse[group].float()[:, :, None] + self.fine[group].float()[:, None]).flatten(1, 2)
        return self.share * shared_EC + F.pad(offsets, (0, self.spare))

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:  # type: ignore[no-untyped-def]
        """A resumed training meets a bank of a size that the fresh model could not know."""
        found = state_dict.get(prefix + "packed")
        if found is not None and found.shape != self.packed.shape:
            self.packed = torch.zeros_like(found, device=self.packed.device)
        self._pictures = self._keys = None
        super()._load_from_state_dict(state_dict, prefix, *args)


def summary(x_BTCHW: Tensor, stream: StreamConfig) -> Tensor:
    """What scenes are compared by, in [0, 1]: mean frames (B, 3, H, W) of video, mean columns (B, 1, H, 1) of a mel.

    Input: [0, 1] or uint8.
    """
    x = x_BTCHW.float().mean(1)
    x = x / 255 if x_BTCHW.dtype == torch.uint8 else x
    return x.mean(3, keepdim=True) if stream.size[0] == 1 else x


def _key(x_BCHW: Tensor) -> Tensor:
    return F.avg_pool2d(x_BCHW, (COARSE, min(COARSE, x_BCHW.shape[3]))).flatten(1)


def pack(picture_CHW: Tensor) -> bytes:
    """A uint8 picture as lossless WebP; a grey one as three equal channels."""
    from PIL import Image

    file = io.BytesIO()
    pixels = picture_CHW.expand(3, -1, -1).permute(1, 2, 0).contiguous().cpu().numpy()
    Image.fromarray(pixels).save(file, format="WEBP", lossless=True, quality=75, method=4)
    return file.getvalue()


def unpack(file: bytes, stream: StreamConfig) -> Tensor:
    """The inverse: uint8 (C, H, W). Raises AvbenchError for anything but such a picture of the stream's size."""
    import numpy as np
    from PIL import Image

    _, height, width = stream.size
    expected = (1 if stream.size[0] == 1 else width, height)
    try:
        with Image.open(io.BytesIO(file), formats=["WEBP"]) as image:
            if image.size != expected:
                raise AvbenchError(f"a scene has {image.size[0]}x{image.size[1]} pixels, not {expected[0]}x{expected[1]}")
            pixels = np.array(image.convert("RGB"))
    except (OSError, ValueError) as error:
        raise AvbenchError(f"the bank of scenes holds no pictures: {error}") from error
    return torch.from_numpy(pixels).permute(2, 0, 1)[: stream.channels].contiguous()
