"""Euclidean codebooks that follow their inputs by moving averages: one (WavTokenizer) or several in series (EnCodec).

    quantizer = ResidualQuantizer(CodebookConfig(entries=4096, dim=512), num_codebooks=1)
    quantized = quantizer(z_BCL)                 # training: also updates the codebooks; .latents, .codes, .loss
    codes_BKL = quantizer.encode(z_BCL)          # int64; quantizer.encode(z_BCL, num_codebooks=2) uses the first two
    z_BCL = quantizer.decode(codes_BKL)          # as many codebooks as there are codes

`train()` moves the codebooks with every forward pass, `eval()` freezes them and is deterministic: a stage that must not move them calls
`quantizer.eval()`. The codebooks are buffers, so no optimizer sees them; `loss` is the commitment loss, unweighted (WavTokenizer 1000,
EnCodec 1). Buffers of `layers[k]`: `embed` (V, C), `embed_avg` (V, C), `cluster_size` (V,), `inited` (1,), the names and shapes of
EnCodec's and WavTokenizer's published files. Under torch.distributed, all processes hold the same codebooks and must use the same number
of them in a step.

Legend: B clips, C width of a code, L positions, K codebooks, V entries of a codebook, N = B * L points.

Sources: van den Oord et al. 2017 (arXiv 1711.00937, appendix A.1: moving averages); Zeghidour et al. 2021 (SoundStream, arXiv 2107.03312,
section III-C: k-means, dead entries, residual quantization).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from avbench.nn.kmeans import kmeans_anywhere

ROWS = 8192  # points searched at once: bounds the (N, V) table
MIN_USE = 1e-6  # an average below it is noise: the entry stays where it is


@dataclass(frozen=True, kw_only=True)
class CodebookConfig:
    """Size of a codebook and how it learns. The defaults are WavTokenizer's.

    kmeans_iterations: the first training batch's clusters become the codebook, and inputs of the next ones fill it up if it had fewer
        inputs than entries; 0 keeps the entries as loaded or initialised.
    dead_threshold: uses a batch (moving average) under which an entry is dead and moves onto an input of the batch, ...
    dead_share: ... but at most this share of the mean use, N / V. The published threshold of 2 alone would kill most entries at every
        step wherever a batch has fewer than two inputs an entry, WavTokenizer's own 40-token recipe (4,800 inputs, 4,096 entries) included;
        there it does no harm, as the published code then overwrites moved entries with their averages (here the averages move along).
    """

    entries: int = 4096
    dim: int = 512
    decay: float = 0.99
    kmeans_iterations: int = 200
    dead_threshold: float = 2.0
    dead_share: float = 0.1


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """latents: (B, C, L) float32, straight-through; codes: int64 (B, K, L); loss: commitment, scalar, mean over codebooks."""

    latents: Tensor
    codes: Tensor
    loss: Tensor


class ResidualQuantizer(nn.Module):
    """K codebooks in series: each quantizes what the ones before it have left. Everything in float32."""

    def __init__(self, config: CodebookConfig, num_codebooks: int = 1) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(Codebook(config) for _ in range(num_codebooks))

    def forward(self, z_BCL: Tensor, num_codebooks: int | None = None) -> Quantized:
        """Quantize with the first `num_codebooks` (all by default); in training, those also learn."""
        with torch.autocast(z_BCL.device.type, enabled=False):
            z_NC = _rows(z_BCL)
            chosen, codes, losses = torch.zeros_like(z_NC), [], []
            for book in self._books(num_codebooks):
                residual = z_NC - chosen  # entries carry no gradient, so neither does what they take away
                if self.training:
                    book.prepare(residual)
                codes.append(book.nearest(residual))
                entry = book.entries(codes[-1])
                losses.append(F.mse_loss(residual, entry))
                chosen = chosen + entry
                if self.training:
                    book.follow(residual, codes[-1])
            latents = z_NC + (chosen - z_NC).detach()  # once, around the whole series: inside it, gradients would add up K times
        return Quantized(latents=_columns(latents, z_BCL), codes=_stack(codes, z_BCL), loss=torch.stack(losses).mean())

    @torch.no_grad()
    def encode(self, z_BCL: Tensor, num_codebooks: int | None = None) -> Tensor:
        """(B, C, L) -> int64 (B, K, L): the nearest entry of each residual. Never learns."""
        residual, codes = _rows(z_BCL), []
        for book in self._books(num_codebooks):
            codes.append(book.nearest(residual))
            residual = residual - book.entries(codes[-1])
        return _stack(codes, z_BCL)

    @torch.no_grad()
    def decode(self, codes_BKL: Tensor) -> Tensor:
        """int64 (B, K, L) -> (B, C, L) float32: the sum of the entries."""
        books = self._books(codes_BKL.shape[1])
        entries = [book.entries(codes) for codes, book in zip(codes_BKL.unbind(1), books, strict=True)]
        return torch.stack(entries).sum(0).transpose(1, 2)

    def _books(self, num_codebooks: int | None) -> list["Codebook"]:
        number = len(self.layers) if num_codebooks is None else num_codebooks
        if not 1 <= number <= len(self.layers):
            raise ValueError(f"{number} codebooks asked for; there are {len(self.layers)}")
        return list(self.layers)[:number]  # type: ignore[return-value]


class Codebook(nn.Module):
    """One codebook: finds codes, gives entries, learns from points when asked to."""

    def __init__(self, config: CodebookConfig) -> None:
        super().__init__()
        self.config = config
        entries = torch.zeros(config.entries, config.dim)
        if not config.kmeans_iterations:
            nn.init.kaiming_uniform_(entries)
        self.register_buffer("inited", torch.tensor([0.0 if config.kmeans_iterations else 1.0]))
        self.register_buffer("cluster_size", torch.ones(config.entries))
        self.register_buffer("embed", entries)
        self.register_buffer("embed_avg", entries.clone())
        self.inited: Tensor
        self.cluster_size: Tensor
        self.embed: Tensor
        self.embed_avg: Tensor
        self.packed: nn.Module | None = None  # the search as one layer, for inference only (inference.py)
        self._started = False  # spares the device a question at every step
        self.register_load_state_dict_post_hook(_ask_again)

    @torch.no_grad()
    def nearest(self, points_NC: Tensor) -> Tensor:
        """(N, C) -> int64 (N,): argmax of z.e - |e|^2 / 2, which is the argmin of the distance."""
        parts = points_NC.float().split(ROWS)
        if self.packed is not None:
            return torch.cat([self.packed(part).argmax(1) for part in parts])
        return torch.cat([torch.addmm(-self.half_norms(), part, self.embed.t()).argmax(1) for part in parts])

    def half_norms(self) -> Tensor:
        """(V,): |e|^2 / 2."""
        return 0.5 * self.embed.square().sum(1)

    def entries(self, codes: Tensor) -> Tensor:
        """int64 (...) -> (..., C): a copy of the chosen entries."""
        return F.embedding(codes, self.embed)

    @torch.no_grad()
    def prepare(self, points_NC: Tensor) -> None:
        """Before a training search: k-means if these are the first points ever, else dead entries move onto some of the points."""
        if self._started or bool(self.inited):
            self._started = True
            self._revive(points_NC)
        else:
            self._start(points_NC)

    @torch.no_grad()
    def follow(self, points_NC: Tensor, codes_N: Tensor) -> None:
        """Entries move to the running mean of the points that chose them; one that nobody chooses stays where it is."""
        counts = torch.zeros_like(self.cluster_size).index_add_(0, codes_N, torch.ones_like(points_NC[:, 0]))
        sums = torch.zeros_like(self.embed).index_add_(0, codes_N, points_NC)
        self.cluster_size.lerp_(_summed(counts), 1 - self.config.decay)
        self.embed_avg.lerp_(_summed(sums), 1 - self.config.decay)
        uses = self.cluster_size[:, None]
        self.embed.copy_(torch.where(uses > MIN_USE, self.embed_avg / uses.clamp_min(MIN_USE), self.embed))

    def _start(self, points_NC: Tensor) -> None:
        """Clusters of the first batch. Fewer points than entries: the points, and copies that count as dead, for the next batches."""
        found = kmeans_anywhere(points_NC, self.config.entries, iterations=self.config.kmeans_iterations)
        self.embed.copy_(_from_first_process(found))
        everywhere = _summed(points_NC.new_tensor(float(len(points_NC))))
        self.cluster_size.zero_()[: len(points_NC)] = everywhere / self.config.entries
        self.embed_avg.copy_(self.embed * self.cluster_size[:, None])
        self.inited.fill_(1.0)

    def _revive(self, points_NC: Tensor) -> None:
        """Dead entries move onto random points, one each, and count as of mean use: time enough to be chosen. Masks, no host sync."""
        mean_use = self.cluster_size.mean()
        dead = self.cluster_size < torch.clamp(self.config.dead_share * mean_use, max=self.config.dead_threshold)
        turn = dead.cumsum(0) - 1
        dead &= turn < len(points_NC)
        order = torch.randperm(len(points_NC), device=points_NC.device)
        points = _from_first_process(points_NC[order[turn.clamp(0, len(points_NC) - 1)]])
        self.embed.copy_(torch.where(dead[:, None], points, self.embed))
        self.cluster_size.copy_(torch.where(dead, mean_use, self.cluster_size))
        self.embed_avg.copy_(torch.where(dead[:, None], self.embed * mean_use, self.embed_avg))


def _ask_again(book: nn.Module, _: object) -> None:
    """After loading a state: it may say that k-means is still to come."""
    assert isinstance(book, Codebook)
    book._started = False


def _rows(z_BCL: Tensor) -> Tensor:
    return z_BCL.float().transpose(1, 2).flatten(0, 1)


def _columns(rows_NC: Tensor, like_BCL: Tensor) -> Tensor:
    return rows_NC.unflatten(0, (like_BCL.shape[0], like_BCL.shape[2])).transpose(1, 2)


def _stack(codes: list[Tensor], like_BCL: Tensor) -> Tensor:
    return torch.stack([code.view(like_BCL.shape[0], like_BCL.shape[2]) for code in codes], dim=1)


def _summed(x: Tensor) -> Tensor:
    """The sum over all processes."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(x)
    return x


def _from_first_process(x: Tensor) -> Tensor:
    if distributed.is_available() and distributed.is_initialized():
        distributed.broadcast(x, src=0)
    return x
