"""Measure training beside its floor: fine-tuning at CamemBERT-base's size, seeds side by side, QLoRA.

    PYTHONPATH=. python benchmarks/training.py                       # all three
    PYTHONPATH=. python benchmarks/training.py qlora --tokens 512

Weights are random: speed does not depend on them. A step is forward, backward and optimizer over --batch
texts of --tokens tokens. Without a GPU the ensemble has tiny-camembert's shape and QLoRA a single layer of a
7B Llama, and only ratios mean something. The floor of a step is what AdamW moves at the rate of the memory,
plus the model's arithmetic at the rate of products, both as measured here. Model FLOP utilisation is the work
that the model asks for (recomputation does not count) against the device's bfloat16 peak, where that is
known. Prints tables.
"""

import argparse
import importlib.metadata
import math
import time
from collections.abc import Callable, Iterator

import bitsandbytes as bnb
import torch
from limits import described, measure, wait
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import (
    BitsAndBytesConfig,
    CamembertConfig,
    CamembertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.integrations.bitsandbytes import replace_with_bnb_linear

from lib.ensembles import fine_tune_together
from lib.finetuning import fine_tune
from lib.precision import float32_products
from lib.seeding import set_deterministic
from lib.tiny import encoder as pretraining

Row = tuple[str, dict[str, float]]
"""What was measured, and its numbers by name."""

PEAKS = {"A100": 312e12, "H100 80GB HBM3": 989e12, "H200": 989e12}
"""FLOP/s of dense bfloat16 products, from NVIDIA's data sheets, by a part of the device's name."""

PAPERS_BATCH = 4  # in the code of papers 1 and 2
BASE = {"vocab_size": 32_005, "max_position_embeddings": 514, "type_vocab_size": 1}  # CamemBERT-base
TINY = BASE | {
    "vocab_size": pretraining.VOCABULARY,
    "hidden_size": pretraining.HIDDEN_SIZE,
    "num_hidden_layers": pretraining.LAYERS,
    "num_attention_heads": pretraining.HEADS,
    "intermediate_size": pretraining.INTERMEDIATE_SIZE,
}
MINILM = BASE | {
    "vocab_size": 30_522,
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
}
LLAMA_7B = {"max_position_embeddings": 4096, "use_cache": False}  # the rest is LlamaConfig's default
ONE_LAYER = LLAMA_7B | {"num_hidden_layers": 1, "vocab_size": 2_000}


def timed(train: Callable[[int], object], steps: int, device: torch.device) -> dict[str, float]:
    """Return the seconds of the first step, start-up included, and of a further one.

    The latter is the time of 2n steps minus that of n, divided by n: what a training takes beyond its
    steps is left out.
    """
    taken = []
    for number in (1, steps, 2 * steps):
        wait(device)
        start = time.perf_counter()
        train(number)
        wait(device)
        taken.append(time.perf_counter() - start)
    first, once, twice = taken
    if twice <= once:
        raise SystemExit(f"{steps} steps are too few to be timed on this machine: give more --steps")
    return {"first step, s": first, "s a step": (twice - once) / steps}


def model_flops(config: PreTrainedConfig, tokens: int, *, frozen: bool) -> float:
    """Return the FLOP of forward and backward for one text of this many tokens.

    A weight of a linear layer costs 2 FLOP a token forward, 2 for the activations' gradients and, unless it
    is frozen, 2 for its own; the two products of attention cost 4 d FLOP a pair of tokens and layer forward,
    and twice that backward. An encoder's head sees one token and is left out.
    """
    d, layers, inner = config.hidden_size, config.num_hidden_layers, config.intermediate_size
    if config.model_type == "llama":
        linear = layers * (4 * d * d + 3 * d * inner) + d * config.vocab_size
    else:
        linear = layers * (4 * d * d + 2 * d * inner)
    return (4 if frozen else 6) * linear * tokens + 12 * layers * d * tokens**2


class Loop:
    """A plain training loop over one batch, in float32 or in mixed precision with bfloat16."""

    def __init__(
        self,
        model: nn.Module,
        batch: dict[str, torch.Tensor],
        optimizer: torch.optim.Optimizer,
        *,
        mixed: bool,
    ) -> None:
        self.model, self.batch, self.optimizer, self.mixed = model, batch, optimizer, mixed
        self.device = batch["input_ids"].device

    def __call__(self, steps: int) -> None:
        """Train for some steps."""
        for _ in range(steps):
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.mixed):
                loss = self.model(**self.batch).loss
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()


def encoder(shape: dict[str, int], device: torch.device) -> PreTrainedModel:
    """Build a classifier with random weights."""
    torch.manual_seed(0)
    return CamembertForSequenceClassification(CamembertConfig(**shape)).to(device).train()


def encoder_batch(texts: int, tokens: int, device: torch.device) -> dict[str, torch.Tensor]:
    """Make a batch of random pieces, without padding: (texts, tokens)."""
    ids = torch.randint(5, BASE["vocab_size"], (texts, tokens), device=device)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids[:, 0] % 2}


def fine_tuning(options: argparse.Namespace, device: torch.device) -> Iterator[Row]:
    """CamemBERT-base, every weight trained: a plain loop, sped up bit by bit, and the notebooks' own."""
    on_gpu, texts, tokens = device.type == "cuda", options.batch or PAPERS_BATCH, options.tokens or 128
    work = (texts * tokens, texts * model_flops(CamembertConfig(**BASE), tokens, frozen=False))
    limits, parameters = measure(device), encoder(BASE, device).num_parameters()

    def beside_limits(taken: dict[str, float], precision: str) -> dict[str, float]:
        floor = {"floor, s": limits.training(parameters, work[1], precision)}
        return row(taken, *work) | floor | ({"target, s": 0.006} if on_gpu else {})

    loops = [("float32", "", "float32"), ("float32, fused AdamW", "fused", "float32")]
    if on_gpu:
        loops += [("TF32, fused AdamW", "fused", "tf32"), ("bfloat16, fused AdamW", "fused", "bfloat16")]
    if options.compile:
        name, tricks, precision = loops[-1]
        loops.append((f"{name}, torch.compile", f"{tricks} compiled", precision))
    for name, tricks, precision in loops:
        model = encoder(BASE, device)
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5, fused="fused" in tricks)
        runner = torch.compile(model) if "compiled" in tricks else model
        batch = encoder_batch(texts, tokens, device)
        loop = Loop(runner, batch, optimizer, mixed=precision == "bfloat16")
        with float32_products(precision):
            taken = timed(loop, options.steps, device)
        yield name, beside_limits(taken, precision)
    for precision, capture, deterministic in OURS if on_gpu else OURS[:1]:
        set_deterministic(deterministic)
        train = one_seed(BASE, device, texts, tokens, precision, capture)
        tricks = ", captured" * (on_gpu and capture) + ", deterministic" * (on_gpu and deterministic)
        steps = options.steps * (SHORT if on_gpu and capture else 1)
        numbers = beside_limits(timed(train, steps, device), precision)
        yield f"fine_tune, {precision}{tricks}", numbers
    set_deterministic(False)


OURS = [
    ("float32", True, True),
    ("float32", False, True),
    ("tf32", True, True),
    ("bfloat16", False, True),
    ("bfloat16", True, True),
    ("bfloat16", True, False),
]
"""The ways in which `fine_tune` is timed: precision, whether it is captured, whether it is deterministic."""


def given(shape: dict[str, int], texts: int, tokens: int) -> dict[str, object]:
    """Return what `fine_tune` trains on: one batch, which every epoch sees again."""
    drawn = torch.randint(5, shape["vocab_size"], (texts, tokens)).tolist()
    return {
        "tokenizer": word_tokenizer(shape["vocab_size"]),
        "texts": [" ".join(f"w{number}" for number in text) for text in drawn],
        "labels": [text % 2 for text in range(texts)],
        "learning_rate": 2e-5,
        "batch_size": texts,
        "max_length": tokens,
    }


def one_seed(
    shape: dict[str, int], device: torch.device, texts: int, tokens: int, precision: str, capture: bool
) -> Callable[[int], object]:
    """Return what fine-tunes one seed for so many steps, as the notebooks do."""
    model, how = encoder(shape, device), given(shape, texts, tokens)
    return lambda steps: fine_tune(model, seed=0, epochs=steps, precision=precision, capture=capture, **how)


def ensemble(options: argparse.Namespace, device: torch.device) -> Iterator[Row]:
    """Seeds with the authors' batch of 4, one after the other and side by side: times of a seed and step."""
    on_gpu, texts, limits = device.type == "cuda", options.batch or PAPERS_BATCH, measure(device)
    precision = "bfloat16" if on_gpu else "float32"
    seeds = options.seeds or (10 if on_gpu else 4)
    for name, shape, tokens, asked in ENSEMBLES if on_gpu else ENSEMBLES[:1]:
        if options.tokens not in (None, tokens):
            continue
        flops = model_flops(CamembertConfig(**shape), tokens, frozen=False)
        parameters = encoder(shape, device).num_parameters()
        beside = {"floor, s": limits.training(parameters, texts * flops, precision)}
        if on_gpu:
            beside["target, s"] = asked
        steps = SHORT * options.steps * (4 if shape is TINY and on_gpu else 1)
        alone = one_seed(shape, device, texts, tokens, precision, True)
        set_deterministic(True)  # as in the notebooks
        yield (
            f"{name}, {tokens} tokens, one seed",
            row(timed(alone, steps, device), texts * tokens, texts * flops) | beside,
        )
        built, how = [encoder(shape, device) for _ in range(seeds)], given(shape, texts, tokens)

        def together(number: int, built=built, how=how) -> None:  # noqa: ANN001
            fine_tune_together(built, seeds=range(seeds), epochs=number, precision=precision, **how)

        taken = timed(together, steps, device)
        taken["s a step"] /= seeds
        yield (
            f"{name}, {tokens} tokens, {seeds} seeds side by side",
            row(taken, texts * tokens, texts * flops) | beside,
        )
        del built  # the next ones may need the room


ENSEMBLES = [
    ("tiny-camembert", TINY, 128, math.nan),
    ("MiniLM's size", MINILM, 128, math.nan),
    ("CamemBERT-base", BASE, 128, 0.003),
    ("CamemBERT-base", BASE, 512, 0.006),
]
"""What is trained side by side: a name, a shape, tokens, and the seconds of a seed and step asked for."""

SHORT = 4
"""How many times as many steps are timed where they are short: of tiny models, and captured ones."""


def word_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """Make a tokenizer of the words w0, w1, ...: padding is number 1, as CamemBERT wants it."""
    words = {"<pad>" if number == 1 else f"w{number}": number for number in range(vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))  # noqa: S106 - a token, not a password
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="w0")  # noqa: S106


def qlora(options: argparse.Namespace, device: torch.device) -> Iterator[Row]:
    """Adapters of rank 8 on a decoder of 7B shape in 4 bits, and on the same decoder unquantised."""
    on_gpu, texts = device.type == "cuda", options.batch or 1  # 1: paper 3
    tokens = options.tokens or (512 if on_gpu else 128)
    config = LlamaConfig(**(LLAMA_7B if on_gpu else ONE_LAYER))
    dtype = torch.bfloat16 if on_gpu else torch.float32
    flops = texts * model_flops(config, tokens, frozen=True)
    ids = torch.randint(config.vocab_size, (texts, tokens), device=device)
    for name, four_bit in (("NF4, twice quantised", True), (str(dtype).removeprefix("torch."), False)):
        if on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
        base = decoder(config, device, dtype, four_bit=four_bit)
        weights = base.get_memory_footprint() / 1e9
        if four_bit:
            base = prepare_model_for_kbit_training(base, use_gradient_checkpointing=on_gpu)
        elif on_gpu:
            base.gradient_checkpointing_enable()
            base.enable_input_require_grads()
        model = get_peft_model(base, LoraConfig(r=8, lora_alpha=32, lora_dropout=0.05, task_type="CAUSAL_LM"))
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=2e-4, fused=True)
        loop = Loop(model.train(), {"input_ids": ids, "labels": ids}, optimizer, mixed=on_gpu)
        numbers = row(timed(loop, options.steps, device), texts * tokens, flops) | {"weights, GB": weights}
        if on_gpu:
            numbers["peak, GB"] = torch.cuda.max_memory_allocated(device) / 1e9
        yield name, numbers
        del base, model, trained, optimizer, loop  # the next one may need the room


def decoder(
    config: LlamaConfig, device: torch.device, dtype: torch.dtype, *, four_bit: bool
) -> LlamaForCausalLM:
    """Build a causal model with random weights, one tensor at a time.

    In 4 bits each linear layer is quantised before the next is drawn: never is more than one of them in
    memory in full precision.
    """
    with torch.device("meta"):
        model = LlamaForCausalLM(config).to(dtype)
    if four_bit:
        quantization = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
        model = replace_with_bnb_linear(model, ["lm_head"], quantization)
        model.is_loaded_in_4bit = True
    torch.manual_seed(0)
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            drawn = torch.randn(parameter.shape, device=device, dtype=dtype) * 0.02
            if "norm" in type(module).__name__.lower():
                drawn = torch.ones_like(drawn)
            if isinstance(module, bnb.nn.Linear4bit):
                filled = bnb.nn.Params4bit(
                    drawn, requires_grad=False, quant_type="nf4", compress_statistics=True, module=module
                ).to(device)
            else:
                filled = nn.Parameter(drawn, requires_grad=False)
            setattr(module, name, filled)
    model.model.rotary_emb = type(model.model.rotary_emb)(config).to(device)  # buffers alone
    return model


def row(taken: dict[str, float], tokens: int, flops: float) -> dict[str, float]:
    """Add to a step's time what it does: so many tokens, and so many FLOP."""
    rates = {"tokens/s": tokens / taken["s a step"], "TFLOP/s": flops / taken["s a step"] / 1e12}
    return taken | rates


PARTS = {"fine-tuning": fine_tuning, "ensemble": ensemble, "qlora": qlora}


def print_table(rows: Iterator[Row], peak: float) -> None:
    """Print rows as they come (some take minutes), each with its ratio to the first."""
    slowest = None
    for name, numbers in rows:
        if peak:
            numbers["MFU, %"] = 1e14 * numbers["TFLOP/s"] / peak
        if slowest is None:
            slowest = numbers["s a step"]
            print(f"| | {' | '.join(numbers)} | times as fast |\n|{' --- |' * (len(numbers) + 2)}")
        numbers["times as fast"] = slowest / numbers["s a step"]
        print(f"| {name} | {' | '.join(f'{value:.3g}' for value in numbers.values())} |", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", nargs="?", choices=PARTS, help="default: all")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda where there is one")
    parser.add_argument("--batch", type=int, help="texts a step (default: the papers', 4 and 1)")
    parser.add_argument("--tokens", type=int, help="of each text (default: 128; QLoRA on a GPU: 512)")
    parser.add_argument("--steps", type=int, help="that are timed (default: 2; on a GPU 20)")
    parser.add_argument("--seeds", type=int, help="of the ensemble (default: 4; on a GPU 10)")
    parser.add_argument("--compile", action="store_true", help="torch.compile too: two minutes more on a CPU")
    parser.add_argument("--peak", type=float, default=0.0, help="TFLOP/s of the device, for the utilisation")
    options = parser.parse_args()
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    on_gpu = device.type == "cuda"
    options.steps = options.steps or (20 if on_gpu else 2)
    name = torch.cuda.get_device_name() if on_gpu else f"CPU, {torch.get_num_threads()} threads"
    known = next((peak for part, peak in PEAKS.items() if on_gpu and part in name), 0.0)
    packages = ("torch", "transformers", "bitsandbytes", "peft")
    print(", ".join([name, *(f"{package} {importlib.metadata.version(package)}" for package in packages)]))
    print(described(measure(device)))
    for part in [options.part] if options.part else PARTS:
        print(f"\n{part}: {PARTS[part].__doc__}\n")
        print_table(PARTS[part](options, device), options.peak * 1e12 or known)


if __name__ == "__main__":
    main()
