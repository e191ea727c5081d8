"""Lloyd's k-means with thousands of centres, in batched matrix products. N points, C width, V centres.

Own code: it runs where the patches are, a GPU included; scikit-learn's k-means++ start alone costs more than Lloyd's steps at V = 8192.
"""

import torch
from torch import Tensor

CHUNK = 4096  # points a product: bounds the distance table to 134 MB at V = 8192


@torch.no_grad()
def kmeans(points_NC: Tensor, centres: int, *, iterations: int = 12, seed: int = 0) -> Tensor:
    """(V, C) centres. Fewer points than centres: the points, then noisy repeats. Empty centres restart at the worst-served points."""
    generator = torch.Generator().manual_seed(seed)
    points = points_NC.float()
    order = torch.randperm(len(points), generator=generator)
    if len(points) < centres:
        order = torch.cat([order, torch.randint(len(points), (centres - len(points),), generator=generator)])
    noise = torch.randn(centres, points.shape[1], generator=generator).to(points.device)
    book = points[order[:centres]] + 1e-4 * noise
    for _ in range(iterations):
        nearest, distance = assign(points, book)
        book = _move(points, book, nearest, distance)
    return book


@torch.no_grad()
def assign(points_NC: Tensor, book_VC: Tensor) -> tuple[Tensor, Tensor]:
    """Index of each point's nearest centre and the squared distance to it, both (N,)."""
    half_norm = 0.5 * book_VC.square().sum(1)
    nearest, distance = [], []
    for part in points_NC.split(CHUNK):
        best, index = torch.addmm(-half_norm, part, book_VC.t()).max(1)
        nearest.append(index)
        distance.append(part.square().sum(1) - 2 * best)
    return torch.cat(nearest), torch.cat(distance)


def _move(points_NC: Tensor, book_VC: Tensor, nearest_N: Tensor, distance_N: Tensor) -> Tensor:
    counts = torch.bincount(nearest_N, minlength=len(book_VC))
    sums = torch.zeros_like(book_VC).index_add_(0, nearest_N, points_NC)
    book = torch.where(counts[:, None] > 0, sums / counts.clamp_min(1)[:, None], book_VC)
    empty = (counts == 0).nonzero().flatten()[: len(points_NC)]
    book[empty] = points_NC[distance_N.topk(len(empty)).indices]
    return book
