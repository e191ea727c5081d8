"""One codebook for both streams. B clips, L tokens, N = B * L, C code width, V entries.

`cosine`: LARP's stochastic vector quantizer (entries and inputs on the unit sphere, sampled from softmax(cosine / 0.03) in training).
`euclidean`: the nearest entry; what k-means gives is its optimum, so the linear start (linear_init.py) needs no annealing.
Evaluation always takes the nearest entry: LARP's official model goes on sampling in eval(), and its tokens differ from call to call.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avbench.tokenizers.avtok.config import QuantizerConfig


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """latents: (B, L, C) float32, straight-through; codes: int64 (B, L); loss: scalar, weighted as the config says."""

    latents: Tensor
    codes: Tensor
    loss: Tensor


class Quantizer(nn.Module):
    """Nearest or sampled codebook entry, straight-through gradient, everything in float32."""

    def __init__(self, config: QuantizerConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.entries, config.dim)
        nn.init.kaiming_uniform_(self.embedding.weight, a=5**0.5)
        self.register_buffer("idle_steps", torch.zeros(config.entries, dtype=torch.int32))
        self.idle_steps: Tensor

    def entries(self) -> Tensor:
        """(V, C) float32: the codebook as the decoder sees it (unit rows where cosine)."""
        return self.project(self.embedding.weight.float())

    def forward(self, z_BLC: Tensor, book_BVC: Tensor | None = None) -> Quantized:
        """book: entries of each clip's own, where scenes read the codebook (scene.py)."""
        with torch.autocast(z_BLC.device.type, enabled=False):
            z = self.project(z_BLC.float())
            reviving = self.training and self.config.revive_after and self.embedding.weight.requires_grad
            if reviving:
                self._revive(z.detach().flatten(0, 1))
            book = self.entries() if book_BVC is None else book_BVC
            codes = self._choose(z, book)
            chosen = _looked_up(codes, book)
            loss = self.config.commitment * F.mse_loss(z, chosen.detach()) + self.config.codebook * F.mse_loss(chosen, z.detach())
        if reviving:
            self._count_idle(codes.flatten())
        return Quantized(latents=z + (chosen - z).detach(), codes=codes, loss=loss)

    def encode(self, z_BLC: Tensor, book_BVC: Tensor | None = None) -> Tensor:
        """(B, L, C) -> int64 (B, L): the nearest entries, never sampled."""
        book = self.entries() if book_BVC is None else book_BVC
        return self._nearest(self.project(z_BLC.float()), book)

    def decode(self, codes_BL: Tensor, book_BVC: Tensor | None = None) -> Tensor:
        """int64 (B, L) -> (B, L, C) float32."""
        return _looked_up(codes_BL, self.entries() if book_BVC is None else book_BVC)

    def project(self, x: Tensor) -> Tensor:
        """Onto the unit sphere where cosine; as it is where Euclidean."""
        return F.normalize(x, dim=-1) if self.config.kind == "cosine" else x

    def _choose(self, z_BLC: Tensor, book_VC: Tensor) -> Tensor:
        if not self.training or self.config.temperature == 0:
            return self._nearest(z_BLC, book_VC)
        with torch.no_grad():
            logits = similarity(z_BLC.flatten(0, 1), book_VC) / self.config.temperature
            return torch.multinomial(logits.softmax(-1), 1).view(z_BLC.shape[:2])

    @staticmethod
    @torch.no_grad()
    def _nearest(z_BLC: Tensor, book_VC: Tensor) -> Tensor:
        if book_VC.ndim == 3:
            return torch.stack([similarity(z, book).argmax(-1) for z, book in zip(z_BLC, book_VC, strict=True)])
        rows = z_BLC.flatten(0, 1).split(8192)  # bounds the (N, V) table
        return torch.cat([similarity(part, book_VC).argmax(-1) for part in rows]).view(z_BLC.shape[:2])

    @torch.no_grad()
    def _revive(self, z_NC: Tensor) -> None:
        """Entries idle for `revive_after` steps move onto inputs of this batch, before the step reads them: what backward has saved
        must not change. Without a host sync: masks, no counts.
        """
        dead = self.idle_steps >= self.config.revive_after
        picks = torch.randint(z_NC.shape[0], (self.config.entries,), device=z_NC.device)
        self.embedding.weight.copy_(torch.where(dead[:, None], z_NC[picks], self.embedding.weight))
        self.idle_steps.masked_fill_(dead, 0)

    @torch.no_grad()
    def _count_idle(self, codes_N: Tensor) -> None:
        used = torch.zeros_like(self.idle_steps, dtype=torch.bool)
        used[codes_N] = True
        self.idle_steps.add_(1).masked_fill_(used, 0)


def _looked_up(codes_BL: Tensor, book: Tensor) -> Tensor:
    """Entries of one codebook (V, C), or of each clip's own (B, V, C)."""
    if book.ndim == 2:
        return F.embedding(codes_BL, book)
    return book.gather(1, codes_BL[..., None].expand(-1, -1, book.shape[2]))


def similarity(z_NC: Tensor, book_VC: Tensor) -> Tensor:
    """(N, V): z.e - |e|^2 / 2, which orders entries as minus the squared distance does; on the unit sphere the cosine less a constant."""
    return torch.addmm(-0.5 * book_VC.square().sum(-1), z_NC, book_VC.t())
