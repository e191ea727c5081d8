"""The moving-average codebooks: search, gradient, averages, dead entries, series of codebooks."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from torch import Tensor, distributed

from avbench.nn.residual_vq import Codebook, CodebookConfig, ResidualQuantizer

CONFIG = CodebookConfig(entries=32, dim=4, kmeans_iterations=5)
DRAWN = replace(CONFIG, kmeans_iterations=0)


def make(config: CodebookConfig = DRAWN, num_codebooks: int = 1) -> ResidualQuantizer:
    torch.manual_seed(0)
    return ResidualQuantizer(config, num_codebooks)


def latents(batch: int = 2, length: int = 9, seed: int = 2) -> Tensor:
    return torch.randn(batch, CONFIG.dim, length, generator=torch.Generator().manual_seed(seed))


def first(quantizer: ResidualQuantizer) -> Codebook:
    book = quantizer.layers[0]
    assert isinstance(book, Codebook)
    return book


def test_codes_are_those_of_an_exhaustive_search_and_series_quantize_what_is_left() -> None:
    quantizer, z = make(num_codebooks=3).eval(), latents()
    residual = z.transpose(1, 2).double()
    for k, codes in enumerate(quantizer.encode(z).unbind(1)):
        book = quantizer.layers[k].embed.double()
        assert torch.equal(codes, torch.cdist(residual, book[None]).argmin(-1))
        residual = residual - book[codes]


def test_evaluation_is_deterministic_changes_nothing_and_decodes_to_what_was_quantized() -> None:
    quantizer, z = make(num_codebooks=2).eval(), latents()
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    one, two = quantizer(z), quantizer(z)
    assert torch.equal(one.codes, two.codes)
    assert torch.equal(one.codes, quantizer.encode(z))
    torch.testing.assert_close(quantizer.decode(one.codes), one.latents)
    assert all(torch.equal(value, before[name]) for name, value in quantizer.state_dict().items())


def test_fewer_codebooks_are_the_first_ones_and_more_than_there_are_is_an_error() -> None:
    quantizer, z = make(num_codebooks=3).eval(), latents()
    assert torch.equal(quantizer(z, num_codebooks=2).codes, quantizer.encode(z)[:, :2])
    with pytest.raises(ValueError, match="4 codebooks asked for; there are 3"):
        quantizer(z, num_codebooks=4)


@pytest.mark.parametrize("num_codebooks", [1, 4])
@pytest.mark.parametrize("training", [False, True])
def test_the_gradient_of_the_latents_passes_straight_through_once(num_codebooks: int, training: bool) -> None:
    quantizer, z = make(num_codebooks=num_codebooks).train(training), latents().requires_grad_()
    weight = torch.randn(z.shape)
    (quantizer(z).latents * weight).sum().backward()
    torch.testing.assert_close(z.grad, weight)


def test_the_commitment_loss_is_the_mean_squared_residual_and_pulls_the_input_only() -> None:
    quantizer, z = make(num_codebooks=2).eval(), latents().requires_grad_()
    quantized = quantizer(z)
    quantized.loss.backward()
    first_entry = quantizer.decode(quantized.codes[:, :1])
    left, rest = z.detach() - first_entry, z.detach() - quantizer.decode(quantized.codes)
    assert float(quantized.loss.detach()) == pytest.approx(float((left.square().mean() + rest.square().mean()) / 2))
    torch.testing.assert_close(z.grad, (left + rest) / z.numel())


def test_entries_are_the_moving_average_of_their_inputs() -> None:
    quantizer = make(replace(DRAWN, dead_threshold=0.0)).train()
    book = first(quantizer)
    uses, sums, entries = (x.double().numpy().copy() for x in (book.cluster_size, book.embed_avg, book.embed))
    for seed in range(5):
        z = latents(seed=seed)
        codes = quantizer(z).codes.flatten().numpy()
        points = z.transpose(1, 2).flatten(0, 1).double().numpy()
        for v in range(CONFIG.entries):
            chosen = points[codes == v]
            uses[v] = 0.99 * uses[v] + 0.01 * len(chosen)
            sums[v] = 0.99 * sums[v] + 0.01 * chosen.sum(0)
            entries[v] = sums[v] / uses[v]
    np.testing.assert_allclose(book.cluster_size.numpy(), uses, rtol=1e-5)
    np.testing.assert_allclose(book.embed.numpy(), entries, rtol=1e-4, atol=1e-6)


def test_an_entry_that_nobody_chooses_for_thousands_of_steps_stays_where_it_is() -> None:
    quantizer = make(replace(DRAWN, dead_threshold=0.0)).train()
    book = first(quantizer)
    book.embed[7] = 50.0
    book.embed_avg[7] = 50.0
    for _ in range(1500):
        quantizer(latents(batch=1, length=2))
    torch.testing.assert_close(book.embed[7], torch.full((CONFIG.dim,), 50.0))


def test_the_first_batch_becomes_the_codebook_by_kmeans_once() -> None:
    quantizer, z = make(replace(CONFIG, kmeans_iterations=50)).train(), latents(batch=32, length=32)
    book = first(quantizer)
    assert not book.inited
    loss = float(quantizer(z).loss)
    assert book.inited
    points = z.transpose(1, 2).flatten(0, 1).numpy()
    oracle = KMeans(CONFIG.entries, init="random", n_init=3, random_state=0).fit(points)
    assert loss * points.size == pytest.approx(oracle.inertia_, rel=0.05)
    before = book.embed.clone()
    quantizer(latents(batch=32, length=32, seed=3))
    assert 0 < float((book.embed - before).abs().max()) < 0.5, "k-means ran again"


def test_a_first_batch_smaller_than_the_codebook_is_filled_up_by_the_next_ones() -> None:
    quantizer = make(CONFIG).train()
    for seed in range(4):
        z = latents(batch=1, length=8, seed=seed)  # 4 batches of 8 points for 32 entries
        quantizer(z)
    used = {int(code) for seed in range(4) for code in quantizer.eval().encode(latents(batch=1, length=8, seed=seed)).flatten()}
    assert len(used) >= 28


def test_most_entries_are_in_use_after_a_while_even_with_few_inputs_a_batch() -> None:
    quantizer = make(CONFIG).train()
    for seed in range(300):
        quantizer(latents(batch=1, length=16, seed=seed))
    used = torch.unique(quantizer.eval().encode(latents(batch=64, length=16, seed=999)))
    assert len(used) == CONFIG.entries


def test_a_dead_entry_moves_onto_an_input_and_is_given_time() -> None:
    quantizer = make(DRAWN).train()
    book = first(quantizer)
    book.embed[3] = 1e3
    book.cluster_size[3] = 0.0
    z = latents()
    codes = quantizer(z).codes
    assert bool((codes == 3).any()), "the input it moved onto chooses it"
    assert float(book.cluster_size[3]) > 0.9
    alive = torch.arange(CONFIG.entries) != 3
    assert float((book.embed[alive]).abs().max()) < 10


def test_the_threshold_is_absolute_where_inputs_abound() -> None:
    quantizer = make(replace(DRAWN, dead_share=1.0)).train()
    book = first(quantizer)
    book.cluster_size.fill_(100.0)
    book.cluster_size[0], book.cluster_size[1] = 1.9, 2.1
    before = book.embed.clone()
    book.prepare(latents().transpose(1, 2).flatten(0, 1))
    moved = (book.embed != before).any(1)
    assert moved.nonzero().flatten().tolist() == [0]


def test_training_is_repeatable_from_a_seed_and_a_saved_state() -> None:
    def steps(quantizer: ResidualQuantizer, seeds: range) -> ResidualQuantizer:
        for seed in seeds:
            torch.manual_seed(seed)
            quantizer.train()(latents(seed=seed))
        return quantizer

    whole = steps(make(CONFIG, 2), range(6))
    resumed = make(CONFIG, 2)
    resumed.load_state_dict(steps(make(CONFIG, 2), range(3)).state_dict())
    steps(resumed, range(3, 6))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_state_from_before_kmeans_makes_a_trained_codebook_start_again() -> None:
    fresh, trained = make(CONFIG).state_dict(), make(CONFIG).train()
    trained(latents())
    trained(latents())
    trained.load_state_dict(fresh)
    trained(latents())
    assert first(trained).inited
    assert float(first(trained).embed.abs().max()) > 0


def _process(rank: int, size: int, file: str, queue: object) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=size)
    quantizer = make(CONFIG, 2).train()
    for seed in range(3):
        torch.manual_seed(1000 * rank + seed)  # processes draw differently
        quantizer(latents(seed=10 * seed + rank))
    queue.put((rank, {name: value.numpy() for name, value in quantizer.state_dict().items()}))  # type: ignore[attr-defined]
    distributed.destroy_process_group()


@pytest.mark.slow
def test_processes_hold_the_same_codebooks(tmp_path) -> None:  # type: ignore[no-untyped-def]
    context = torch.multiprocessing.get_context("spawn")
    queue = context.Queue()
    workers = [context.Process(target=_process, args=(rank, 2, str(tmp_path / "store"), queue)) for rank in range(2)]
    for worker in workers:
        worker.start()
    states = dict(queue.get(timeout=120) for _ in workers)
    for worker in workers:
        worker.join()
    for name, value in states[0].items():
        np.testing.assert_array_equal(value, states[1][name], err_msg=name)
    assert float(states[0]["layers.0.cluster_size"].sum()) > 18, "one process alone has 18 inputs a batch"
