"""avbench.generate.sampling: what is sampled, how likely, and on what it depends."""

import math

import pytest
import torch
from scipy import stats

from avbench.errors import UsageError
from avbench.generate.model import Generator, GeneratorConfig
from avbench.generate.sampling import bits_per_clip, kept, prepare, sample, sample_token, target_nats, uniforms
from avbench.generate.space import token_space
from avbench.generate.tasks import TASKS, Layout
from avbench.types import Sampling, Tokens

SPACE = token_space(
    Tokens(
        codes={"video": torch.zeros(1, 1, 5, dtype=torch.int64), "audio": torch.zeros(1, 2, 3, dtype=torch.int64)},
        vocab_sizes={"video": 9, "audio": 7},
        duration_s=1.0,
    ),
    None,
)
LAYOUT = Layout(space=SPACE, tasks=TASKS, classes=("cat", "dog"))


@pytest.fixture
def model() -> Generator:
    torch.manual_seed(0)
    config = GeneratorConfig(name="tiny", width=32, layers=2, heads=2, hidden=48)
    made = Generator(config, num_ids=LAYOUT.num_ids, num_codes=SPACE.num_codes, num_slots=LAYOUT.num_slots).eval()
    torch.nn.init.normal_(made.head.weight)
    torch.nn.init.normal_(made.embed.weight)
    return made


def prompts(task: str, rows: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    if task == "av":
        return LAYOUT.prompt("av", LAYOUT.class_ids((["cat", "dog"] * rows)[:rows]))
    video = torch.randint(9, (rows, 5), generator=generator)
    audio = 9 + torch.randint(7, (rows, 6), generator=generator) + torch.tensor([0, 7] * 3)
    return LAYOUT.prompt(task, {"audio": audio} if task == "a2v" else {"video": video})


def ids(rows: int) -> list[str]:
    return [f"clip {row}" for row in range(rows)]


def sampled(model: Generator, task: str, rows: int, how: Sampling, seed: int = 0) -> torch.Tensor:
    plan, prompt = LAYOUT.plan(task), prompts(task, rows)
    uniform = uniforms(seed, ids(rows), plan.length - plan.prompt)
    return sample(model, plan, prompt, uniform, how, dropped_BP=LAYOUT.dropped(task, prompt))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("how", [Sampling(), Sampling(guidance=2.5), Sampling(temperature=0.7, top_k=4, top_p=0.9, guidance=1.25)])
def test_cached_sampling_draws_what_whole_passes_would_draw(model: Generator, task: str, how: Sampling) -> None:
    plan, prompt = LAYOUT.plan(task), prompts(task, 3)
    uniform, slots = uniforms(0, ids(3), plan.length - plan.prompt), torch.tensor(plan.slots)
    cond, uncond = prompt, LAYOUT.dropped(task, prompt)
    for number, (low, high) in enumerate(plan.legal()):
        with torch.inference_mode():
            c, u = (model.logits(model(x, slots[: x.shape[1]])[:, -1], low, high) for x in (cond, uncond))
        chosen = low + sample_token(u + how.guidance * (c - u), uniform[:, number], how)
        cond, uncond = (torch.cat([x, chosen[:, None]], dim=1) for x in (cond, uncond))
    assert torch.equal(sampled(model, task, 3, how), cond[:, plan.prompt :])


@pytest.mark.parametrize("task", TASKS)
def test_every_token_is_legal_where_it_stands(model: Generator, task: str) -> None:
    found = sampled(model, task, 50, Sampling(temperature=50.0))  # hot: everything that may come does
    seen = [found[:, position] for position in range(found.shape[1])]
    for values, (low, high) in zip(seen, LAYOUT.plan(task).legal(), strict=True):
        assert low <= int(values.min())
        assert int(values.max()) < high
        assert len(values.unique()) > 2


def test_a_seed_gives_a_clip_the_same_tokens_whatever_its_batch(model: Generator) -> None:
    together = sampled(model, "v2a", 8, Sampling(guidance=1.5))
    for rows in (1, 3):
        assert torch.equal(sampled(model, "v2a", rows, Sampling(guidance=1.5)), together[:rows])
    assert not torch.equal(sampled(model, "v2a", 8, Sampling(guidance=1.5), seed=1), together)


@pytest.mark.parametrize("rows", [1, 6])
@pytest.mark.parametrize("task", TASKS)
def test_a_prepared_model_draws_the_same_tokens(model: Generator, task: str, rows: int) -> None:
    ready = prepare(model, rows)
    assert type(ready.blocks[0].down) is not type(model.blocks[0].down)  # else it compares nothing
    plan, whole = LAYOUT.plan(task), torch.cat([prompts(task, 3), sampled(model, task, 3, Sampling())], dim=1)
    ours, theirs = (target_nats(one, plan, whole) for one in (model, ready))
    for name in ours:
        assert torch.allclose(ours[name], theirs[name], atol=1e-5)
    assert torch.equal(sampled(ready, task, 3, Sampling(guidance=1.5)), sampled(model, task, 3, Sampling(guidance=1.5)))


def test_a_model_prepared_in_bfloat16_is_nearly_the_same(model: Generator) -> None:
    plan, whole = LAYOUT.plan("av"), torch.cat([prompts("av", 3), sampled(model, "av", 3, Sampling())], dim=1)
    exact, rounded = (bits_per_clip(target_nats(one, plan, whole)) for one in (model, prepare(model, 3, torch.bfloat16)))
    for name in exact:
        assert torch.allclose(exact[name], rounded[name], rtol=0.03)
        assert not torch.equal(exact[name], rounded[name])


@pytest.mark.gpu
def test_a_cuda_graph_draws_what_plain_steps_draw(model: Generator) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    ready, plan, prompt = prepare(model.cuda(), 6, torch.float32), LAYOUT.plan("v2a"), prompts("v2a", 3).cuda()
    uniform, how = uniforms(0, ids(3), plan.length - plan.prompt).cuda(), Sampling(guidance=1.5)
    found = sample(ready, plan, prompt, uniform, how, dropped_BP=LAYOUT.dropped("v2a", prompt)).cpu()
    assert torch.equal(found, sampled(model.cpu(), "v2a", 3, how))


def test_guidance_of_zero_forgets_the_condition_and_needs_it_dropped(model: Generator) -> None:
    found = sampled(model, "av", 2, Sampling(guidance=0.0, temperature=0.0))
    assert torch.equal(found[0], found[1])  # a cat and a dog
    with pytest.raises(ValueError, match="without their condition"):
        sample(model, LAYOUT.plan("av"), prompts("av", 2), uniforms(0, ids(2), 11), Sampling(guidance=2.0))


def test_uniform_numbers_belong_to_seed_clip_and_place() -> None:
    both = uniforms(3, ["a", "b"], 100)
    assert torch.equal(uniforms(3, ["b"], 100)[0], both[1])
    assert torch.equal(uniforms(3, ["a"], 10)[0], both[0, :10])
    assert not torch.equal(uniforms(4, ["a"], 100)[0], both[0])
    assert stats.kstest(uniforms(0, [str(i) for i in range(100)], 100).flatten().numpy(), "uniform").pvalue > 0.01


def test_draws_follow_the_softmax() -> None:
    torch.manual_seed(0)
    logits = torch.randn(6)
    samples = sample_token(logits.expand(20_000, -1), torch.rand(20_000, dtype=torch.float64), Sampling(temperature=0.8))
    expected = 20_000 * (logits / 0.8).softmax(-1)
    assert stats.chisquare(torch.bincount(samples, minlength=6).numpy(), expected.double().numpy(), sum_check=False).pvalue > 0.01


def test_a_uniform_number_picks_the_entry_that_it_falls_into() -> None:
    logits = torch.tensor([0.5, 0.0, 0.3, 0.2]).log().expand(5, -1)
    points = torch.tensor([0.0, 0.499, 0.501, 0.799, 0.999_999_999], dtype=torch.float64)
    assert sample_token(logits, points, Sampling()).tolist() == [0, 0, 2, 2, 3]


def test_top_k_and_top_p_keep_the_fewest_likeliest() -> None:
    probabilities = torch.tensor([[0.5, 0.25, 0.15, 0.1]])
    assert (kept(probabilities, Sampling(top_k=2)) > 0).tolist() == [[True, True, False, False]]
    assert (kept(probabilities, Sampling(top_p=0.7)) > 0).tolist() == [[True, True, False, False]]
    assert (kept(probabilities, Sampling(top_p=0.8)) > 0).tolist() == [[True, True, True, False]]
    assert (kept(probabilities, Sampling(top_p=1e-9)) > 0).tolist() == [[True, False, False, False]]
    assert (kept(probabilities, Sampling(top_k=2, top_p=0.6)) > 0).tolist() == [[True, False, False, False]]  # 0.5 of 0.75 is 0.67
    shuffled = torch.tensor([[0.1, 0.5, 0.15, 0.25]]).log().expand(1000, -1)
    found = sample_token(shuffled, torch.rand(1000, dtype=torch.float64), Sampling(top_k=2))
    assert set(found.tolist()) == {1, 3}


def test_temperature_zero_is_the_likeliest() -> None:
    logits = torch.randn(4, 9)
    assert torch.equal(sample_token(logits, torch.rand(4), Sampling(temperature=0.0)), logits.argmax(-1))


@pytest.mark.parametrize(
    "wrong", [{"temperature": -1.0}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.1}, {"guidance": -0.5}, {"temperature": math.nan}]
)
def test_impossible_ways_to_draw_are_usage_errors(wrong: dict) -> None:
    with pytest.raises(UsageError):
        Sampling(**wrong)


@pytest.mark.parametrize("task", TASKS)
def test_likelihoods_are_those_of_the_masked_softmax(model: Generator, task: str) -> None:
    plan = LAYOUT.plan(task)
    whole = torch.cat([prompts(task, 2), sampled(model, task, 2, Sampling())], dim=1)
    hidden = model(whole[:, :-1], torch.tensor(plan.slots)[:-1])
    scores = model.logits(hidden, 0, SPACE.num_codes)
    expected = torch.zeros(2)
    for position, (low, high) in zip(range(plan.prompt, plan.length), plan.legal(), strict=True):
        masked = scores[:, position - 1].clone()
        masked[:, :low], masked[:, high:] = -math.inf, -math.inf
        expected -= masked.log_softmax(-1)[range(2), whole[:, position]]
    found = target_nats(model, plan, whole)
    assert set(found) == {"a2v": {"video"}, "v2a": {"audio"}, "av": {"video", "audio"}}[task]
    assert torch.allclose(sum(part.sum(1) for part in found.values()), expected, atol=1e-4)
    assert torch.allclose(sum(bits_per_clip(found).values()), expected.double() / math.log(2), atol=1e-3)


def test_a_uniform_model_costs_the_bits_of_its_vocabulary() -> None:
    config = GeneratorConfig(name="tiny", width=32, layers=1, heads=2, hidden=48)
    fresh = Generator(config, num_ids=LAYOUT.num_ids, num_codes=SPACE.num_codes, num_slots=LAYOUT.num_slots).eval()
    plan = LAYOUT.plan("a2v")
    whole = torch.cat([prompts("a2v", 2), torch.randint(9, (2, 5))], dim=1)
    assert bits_per_clip(target_nats(fresh, plan, whole))["video"].tolist() == pytest.approx([5 * math.log2(9)] * 2)
