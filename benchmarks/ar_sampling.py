"""Tokens a second of our sampling beside `transformers` generate: one architecture, the same weights, in one run.

`python benchmarks/ar_sampling.py [--batches 8,1] [--positions 376] [--device cpu] [--dtype float32]`: the mini generator (rotary, as Llama;
376 tokens of 4096, as avtok-mini's). Logits are compared first, in float32. Both sample from the full softmax at temperature 1 and keep
keys and values; guidance is ours alone, and shown as what it costs. Prints a JSON object.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import torch

from avbench.generate import model as sizes
from avbench.generate.model import Generator
from avbench.generate.sampling import prepare, sample, uniforms
from avbench.generate.space import token_space
from avbench.generate.tasks import Layout, Plan
from avbench.run.manifest import hardware
from avbench.types import Sampling, Tokens

VOCAB = 4096
ROUNDS = 3
ALLOWED = 1e-4  # between the two models' logits


def main() -> None:
    """Compare, then print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", default="8,1")
    parser.add_argument("--positions", type=int, default=376)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[arguments.dtype]
    ours, plan, theirs = models(arguments.positions, device)
    report = {"machine": hardware(device), "threads": torch.get_num_threads(), "dtype": arguments.dtype, "tokens": arguments.positions}
    report["largest difference of logits"] = difference(ours, plan, theirs, device)
    theirs = theirs.to(dtype)
    report["batches"] = [compare(ours, plan, theirs, int(batch), device, dtype) for batch in arguments.batches.split(",")]
    print(json.dumps(report, indent=1))


def models(positions: int, device: torch.device) -> tuple[Generator, Plan, torch.nn.Module]:
    """Our mini generator with random weights, its class-conditional sequence, and the same as a LlamaForCausalLM."""
    codes = torch.zeros(1, 1, positions, dtype=torch.int64)
    tokens = Tokens(codes={"joint": codes}, vocab_sizes={"joint": VOCAB}, duration_s=4.096)
    layout = Layout(space=token_space(tokens, {"video": positions - 120, "audio": 120}), tasks=("av",), classes=("any",))
    torch.manual_seed(0)
    config = replace(sizes.mini(), positions="rope")
    ours = Generator(config, num_ids=layout.num_ids, num_codes=VOCAB, num_slots=layout.num_slots).eval().requires_grad_(False)
    torch.nn.init.normal_(ours.head.weight, std=0.2)  # its zeros would hide a wrong mapping
    return ours.to(device), layout.plan("av"), llama(ours).to(device)


def llama(ours: Generator) -> torch.nn.Module:
    """`transformers`' model of the same architecture, with our weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = ours.config
    theirs = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=ours.embed.num_embeddings,
            hidden_size=config.width,
            intermediate_size=config.hidden,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            rms_norm_eps=config.norm_eps,
            rope_theta=config.rope_theta,
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=None,
        )
    ).eval()
    theirs.lm_head = torch.nn.Linear(config.width, VOCAB, bias=False)
    weights = {"model.embed_tokens": ours.embed, "model.norm": ours.norm, "lm_head": ours.head}
    state = {f"{name}.weight": part.weight for name, part in weights.items()}
    for number, block in enumerate(ours.blocks):
        query, key, value = block.attn.qkv.weight.chunk(3)
        gate, up = block.gate_up.weight.chunk(2)
        mlp = {"mlp.gate_proj": gate, "mlp.up_proj": up, "mlp.down_proj": block.down.weight}
        attention = {"q_proj": query, "k_proj": key, "v_proj": value, "o_proj": block.attn.out.weight}
        norms = {"input_layernorm": block.norm1.weight, "post_attention_layernorm": block.norm2.weight}
        parts = {**norms, **mlp, **{f"self_attn.{name}": weight for name, weight in attention.items()}}
        state |= {f"model.layers.{number}.{name}.weight": weight for name, weight in parts.items()}
    theirs.load_state_dict(state)
    return theirs.requires_grad_(False)


@torch.inference_mode()
def difference(ours: Generator, plan: Plan, theirs: torch.nn.Module, device: torch.device) -> float:
    """Largest difference of the logits of random sequences; exits where it is more than rounding."""
    ids = torch.randint(VOCAB, (2, plan.length), device=device)
    mine = ours.logits(ours(ids, torch.tensor(plan.slots, device=device)), 0, VOCAB)
    found = float((mine - theirs(ids).logits).abs().max())
    if found > ALLOWED:
        raise SystemExit(f"the two models differ by {found:g}: a comparison of their speeds would mean nothing")
    return found


def compare(ours: Generator, plan: Plan, theirs: torch.nn.Module, batch: int, device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """Tokens a second of both, rounds in turn, medians; the first round of each is not counted."""
    positions = plan.length - plan.prompt
    plain, guided = prepare(ours, batch, dtype), prepare(ours, 2 * batch, dtype)
    prompt = torch.full((batch, 1), VOCAB, device=device)
    uniform = uniforms(0, [str(clip) for clip in range(batch)], positions).to(device)
    keywords = {"max_new_tokens": positions, "min_new_tokens": positions, "do_sample": True, "top_k": 0, "top_p": 1.0, "temperature": 1.0}
    ways: dict[str, Callable[[], object]] = {
        "avbench": lambda: sample(plain, plan, prompt, uniform, Sampling()),
        "transformers": lambda: theirs.generate(prompt, attention_mask=torch.ones_like(prompt), **keywords),  # type: ignore[operator]
        "avbench, guided": lambda: sample(guided, plan, prompt, uniform, Sampling(guidance=1.25), dropped_BP=prompt),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(1 + ROUNDS):
        for name, way in ways.items():
            seconds[name].append(timed(way, device))
    speeds = {name: batch * positions / median(values[1:]) for name, values in seconds.items()}
    report = {"batch": batch, **{f"{name}, tokens/s": round(speed, 1) for name, speed in speeds.items()}}
    return report | {"ratio": round(speeds["avbench"] / speeds["transformers"], 2)}


def timed(way: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call: of processor time where one CPU thread works (a busy machine then slows neither), else of wall time."""
    clock = time.process_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    begin = clock()
    with torch.inference_mode():
        way()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - begin


if __name__ == "__main__":
    main()
