"""avbench.generate.model: published size, the Llama of `transformers`, causality, and the cache."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from avbench.generate import model as sizes
from avbench.generate.model import Generator, GeneratorConfig, count_parameters
from avbench.generate.space import token_space
from avbench.generate.tasks import Layout
from avbench.nn.transformer import causal_attention
from avbench.types import Tokens

TINY = GeneratorConfig(name="tiny", width=32, layers=2, heads=2, hidden=48)
ROPE = replace(TINY, positions="rope")


def model(config: GeneratorConfig = TINY, *, codes: int = 20, slots: int = 12) -> Generator:
    torch.manual_seed(0)
    made = Generator(config, num_ids=codes + 3, num_codes=codes, num_slots=slots).eval()
    torch.nn.init.normal_(made.head.weight)
    return made


def test_the_base_size_has_the_published_parameters() -> None:
    codes = torch.zeros(1, 1, 1152, dtype=torch.int64)
    space = token_space(Tokens(codes={"joint": codes}, vocab_sizes={"joint": 8192}, duration_s=4.096), {"video": 1024, "audio": 128})
    published = {"a2v": 632.0, "av": 632.4}  # M, AVTok's generation table; VGGSound's 309 classes
    for task, millions in published.items():
        layout = Layout(space=space, tasks=(task,), classes=tuple(map(str, range(309))))
        with torch.device("meta"):
            made = Generator(sizes.base(), num_ids=layout.num_ids, num_codes=space.num_codes, num_slots=layout.num_slots)
        assert round(count_parameters(made) / 1e6, 1) == millions


def test_the_mini_size_fits_a_cpu() -> None:
    with torch.device("meta"):
        made = Generator(sizes.mini(), num_ids=4096 + 105, num_codes=4096, num_slots=378)
    assert 5e6 < count_parameters(made) < 8e6


@pytest.mark.parametrize("config", [TINY, ROPE])
def test_a_place_does_not_see_what_follows(config: GeneratorConfig) -> None:
    made, slots = model(config), torch.arange(12)
    ids = torch.randint(20, (2, 12))
    other = ids.clone()
    other[:, 7:] = (other[:, 7:] + 1) % 20
    one, two = made(ids, slots), made(other, slots)
    assert torch.equal(one[:, :7], two[:, :7])
    assert not torch.allclose(one[:, 7:], two[:, 7:])


@torch.no_grad()
@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("config", [TINY, ROPE])
def test_the_cached_pass_gives_the_logits_of_the_whole_pass(config: GeneratorConfig, fixed: bool) -> None:
    made, slots, ids = model(config), torch.arange(12), torch.randint(20, (3, 12))
    whole = made.logits(made(ids, slots), 0, 20)
    cache = made.new_cache(3, 12, fixed=fixed)
    parts = [made(ids[:, :5], slots[:5], cache)]
    parts += [made(ids[:, position : position + 1], slots[position : position + 1], cache) for position in range(5, 12)]
    assert torch.allclose(made.logits(torch.cat(parts, dim=1), 0, 20), whole, atol=1e-5)
    with pytest.raises(ValueError, match="one position at a time"):
        made(ids[:, :2], slots[:2], cache)


@pytest.mark.parametrize("positions", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_attention_in_parts_is_causal_attention(positions: int, dtype: torch.dtype) -> None:
    parts = torch.randn(3, 2, 3, positions, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(positions))
    q, k, v = (part.to(dtype).detach().requires_grad_() for part in parts)
    found = causal_attention(q, k, v)
    expected = F.scaled_dot_product_attention(*(part.detach().double() for part in (q, k, v)), is_causal=True)
    assert torch.allclose(found.double(), expected, atol=0.03 if dtype == torch.bfloat16 else 1e-5)
    found[:, :, 0].sum().backward()  # the first position depends on nothing but its own value
    assert torch.equal(v.grad[:, :, 0], torch.ones_like(v.grad[:, :, 0]))  # type: ignore[index]
    assert not v.grad[:, :, 1:].any()  # type: ignore[index]


@torch.no_grad()
def test_rotary_positions_are_those_of_llama_in_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    made = model(ROPE)
    theirs = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=23, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, rms_norm_eps=1e-5,
            rope_theta=10_000.0, tie_word_embeddings=False, attention_bias=False, mlp_bias=False,
        )
    ).eval()  # fmt: skip
    theirs.lm_head = torch.nn.Linear(32, 20, bias=False)
    theirs.load_state_dict(llama_weights(made))
    ids = torch.randint(20, (2, 12))
    expected = theirs(ids).logits
    assert float(expected.abs().max()) > 0.1
    assert torch.allclose(made.logits(made(ids, torch.arange(12)), 0, 20), expected, atol=1e-4)


def llama_weights(made: Generator) -> dict[str, torch.Tensor]:
    weights = {"model.embed_tokens.weight": made.embed.weight, "model.norm.weight": made.norm.weight, "lm_head.weight": made.head.weight}
    for number, block in enumerate(made.blocks):
        query, key, value = block.attn.qkv.weight.chunk(3)
        gate, up = block.gate_up.weight.chunk(2)
        parts = {
            "input_layernorm": block.norm1.weight, "post_attention_layernorm": block.norm2.weight, "self_attn.q_proj": query,
            "self_attn.k_proj": key, "self_attn.v_proj": value, "self_attn.o_proj": block.attn.out.weight, "mlp.gate_proj": gate,
            "mlp.up_proj": up, "mlp.down_proj": block.down.weight,
        }  # fmt: skip
        weights |= {f"model.layers.{number}.{name}.weight": weight for name, weight in parts.items()}
    return weights


def test_a_fresh_model_predicts_the_uniform_distribution() -> None:
    made = Generator(TINY, num_ids=23, num_codes=20, num_slots=12).eval()
    assert made.logits(made(torch.randint(20, (2, 12)), torch.arange(12)), 0, 20).abs().max() == 0


def test_dropout_is_there_in_training_only() -> None:
    made, ids, slots = model(), torch.randint(20, (1, 12)), torch.arange(12)
    assert torch.equal(made(ids, slots), made(ids, slots))
    made.train()
    assert not torch.equal(made(ids, slots), made(ids, slots))


def test_half_precision_follows_the_embedding() -> None:
    made = model()
    made.compute_dtype = torch.bfloat16
    hidden = made(torch.randint(20, (1, 12)), torch.arange(12))
    assert hidden.dtype == torch.bfloat16
    assert made.logits(hidden, 0, 20).dtype == torch.float32
