"""The cross-modal autoregressive prior (L_prior): makes the token sequence easy to predict while the tokenizer learns.

B clips, L tokens of the streams present (video first), C code width, D width, V entries. As LARP's prior (gptc-S), over both streams: it
reads de-quantized latents (with their straight-through gradient) and predicts each next code by similarity to the detached codebook.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avbench.nn.transformer import LayerNorm, Linear, NormedBlock
from avbench.tokenizers.avtok.config import AVTokConfig
from avbench.tokenizers.avtok.quantizer import Quantized, similarity


class PriorBlock(NormedBlock):
    """A causal block with dropout on both branches."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__(width, heads, causal=True)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BLD: Tensor, norms: object = None) -> Tensor:
        x_BLD = x_BLD + self.dropout(self.attn(self.norm1(x_BLD)))
        return x_BLD + self.dropout(self.mlp(self.norm2(x_BLD)))  # type: ignore[no-any-return]


class Prior(nn.Module):
    """Predicts code i + 1 from latents 0..i of [video tokens ; audio tokens], or of one stream where only one is trained."""

    def __init__(self, config: AVTokConfig) -> None:
        super().__init__()
        self.config = config.prior
        self.compute_dtype = torch.float32  # bfloat16 on a CUDA device (train/objective.py)
        self.unit_sphere = config.quantizer.kind == "cosine"
        self.lengths = {name: config.stream(name).tokens for name in config.streams}
        width = config.prior.width
        self.input = Linear(config.quantizer.dim, width)
        self.positions = nn.Parameter(torch.randn(sum(self.lengths.values()), width) * 0.02)
        self.dropout = nn.Dropout(config.prior.dropout)
        self.blocks = nn.ModuleList(PriorBlock(width, config.prior.heads, config.prior.dropout) for _ in range(config.prior.layers))
        self.norm = LayerNorm(width)
        self.head = Linear(width, config.quantizer.dim)
        # Distances have a scale that the codebook sets (`start_at`), cosines do not (LARP: temperature 1).
        self.log_scale = None if self.unit_sphere else nn.Parameter(torch.zeros(()))

    @torch.no_grad()
    def start_at(self, book_VC: Tensor) -> None:
        """Scores of Euclidean entries divided by the entries' mean energy: the first loss is the uniform distribution's.

        At scale 1, linear-start codes of avtok-small gave 24 to 27 nats a token (uniform: 9.0), and the encoder a gradient 15 times that
        of the reconstruction; so begun, 9.0 nats and a third of it.
        """
        if self.log_scale is not None:
            self.log_scale.copy_(-book_VC.square().sum(-1).mean().clamp_min(1e-6).log())

    def forward(self, streams: dict[str, Quantized], book_VC: Tensor, progress: float, video: Quantized | None = None) -> Tensor:
        """Mean cross-entropy (nats a token) of both rounds. progress in [0, 1]: share of all steps done, for scheduled sampling.

        video: frozen tokens of a video that is not among the streams; read, and neither scored nor replaced by samples.
        """
        context = {} if video is None else {"video": video}
        names = [name for name in self.lengths if name in context | streams]
        latents = torch.cat([(context | streams)[name].latents for name in names], dim=1)
        codes = torch.cat([(context | streams)[name].codes for name in names], dim=1)
        positions = self._positions(names)
        book = book_VC.detach()
        begin = 1 if video is None else video.codes.shape[1]  # the first code that is scored
        first = self.logits(latents, positions, book, begin - 1)
        second = self.logits(self._mixed(latents, first, book, progress), positions, book, begin - 1)
        targets = codes[:, begin:].flatten()
        losses = [F.cross_entropy(logits[:, :-1].flatten(0, 1), targets) for logits in (first, second)]
        return 0.5 * (losses[0] + losses[1])

    def logits(self, latents_BLC: Tensor, positions_LD: Tensor, book_VC: Tensor, begin: int = 0) -> Tensor:
        """(B, L - begin, V) float32: position i scores code i + 1, from position `begin` on."""
        x = self.dropout(self.input(latents_BLC.to(self.compute_dtype)) + positions_LD.to(self.compute_dtype))
        for block in self.blocks:
            x = block(x)
        out = self.head(self.norm(x[:, begin:])).float()
        out = F.normalize(out, dim=-1) if self.unit_sphere else out
        scores = similarity(out.flatten(0, 1), book_VC).view(*out.shape[:2], -1)
        return scores if self.log_scale is None else scores * self.log_scale.exp()

    def mix_share(self, progress: float) -> float:
        """Chance that a position of the second round is the prior's own sample: 0 at first, `max_mix` after `mix_warmup` of all steps."""
        return self.config.max_mix * min(1.0, progress / self.config.mix_warmup)

    @torch.no_grad()
    def _sampled(self, logits_BLV: Tensor) -> Tensor:
        sampled = torch.multinomial(logits_BLV[:, :-1].flatten(0, 1).softmax(-1), 1)
        return sampled.view(logits_BLV.shape[0], -1)

    def _mixed(self, latents_BLC: Tensor, logits_BLV: Tensor, book_VC: Tensor, progress: float) -> Tensor:
        samples = F.embedding(self._sampled(logits_BLV), book_VC)
        given = latents_BLC.shape[1] - samples.shape[1]  # the first, or the context
        own = torch.cat([latents_BLC[:, :given].detach(), samples], dim=1)
        replace = torch.rand(latents_BLC.shape[:2], device=latents_BLC.device) < self.mix_share(progress)
        replace[:, :given] = False
        return torch.where(replace[..., None], own, latents_BLC)

    def _positions(self, names: Sequence[str]) -> Tensor:
        tables = dict(zip(self.lengths, self.positions.split(list(self.lengths.values())), strict=True))
        return torch.cat([tables[name] for name in names])
