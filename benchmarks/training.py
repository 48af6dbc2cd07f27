"""Measure training: fine-tuning at CamemBERT-base's size, seeds side by side, QLoRA at 7B shape.

    python benchmarks/training.py fine-tuning
    python benchmarks/training.py ensemble
    python benchmarks/training.py qlora

Weights are random: speed does not depend on them. Without a GPU the ensemble and QLoRA are measured on
smaller shapes, which the output names, and then only the ratios between its rows say something. Model FLOP
utilisation is the work that the model asks for (no recomputation counted), against the fastest matrix product
measured on the same device in the same type, or against --peak-tflops, a data sheet's. Prints tables.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial

import bitsandbytes as bnb
import torch
from datasets import Dataset
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
    PreTrainedTokenizerFast,
    Trainer,
    default_data_collator,
)
from transformers.integrations.bitsandbytes import replace_with_bnb_linear

from lib.ensembles import fine_tune_together
from lib.finetuning import fine_tune
from lib.training import run_trainer

Row = tuple[str, dict[str, float]]
"""What was measured, and its numbers by name."""

BATCH = 4  # papers 1 and 2
CAMEMBERT_BASE = {
    "vocab_size": 32_005,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
}
SMALL_ENCODER = CAMEMBERT_BASE | {
    "vocab_size": 2_000,
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 512,
}
SEVEN_BILLION = {"max_position_embeddings": 2048}  # the rest is LlamaConfig's default: Llama 2 7B
SMALL_DECODER = {
    "hidden_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "intermediate_size": 1376,
    "vocab_size": 8_000,
}


def seconds_a_step(train: Callable[[int], object], steps: int, device: torch.device) -> tuple[float, float]:
    """Return what the first step takes, start-up included, and what a further one takes.

    The latter is the time of 2n steps less that of n, over n: what a training takes beyond its steps is out.
    """
    first, once, twice = (_seconds(train, number, device) for number in (1, steps, 2 * steps))
    if twice <= once:
        raise SystemExit(f"{steps} steps are too few to be timed on this machine: give more --steps")
    return first, (twice - once) / steps


def _seconds(train: Callable[[int], object], steps: int, device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    train(steps)
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Return the fastest matrix product seen in this type, in FLOP per second."""
    n = 8192 if device.type == "cuda" else 1024
    a = torch.randn(n, n, device=device, dtype=dtype)
    taken = [_seconds(lambda _: a @ a, 1, device) for _ in range(10)]
    return 2 * n**3 / min(taken)


def model_flops(config: PreTrainedConfig, tokens: int, *, weight_gradients: bool) -> float:
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
    return (6 if weight_gradients else 4) * linear * tokens + 12 * layers * d * tokens**2


class Loop:
    """A plain training loop over one batch, with what speeds it up switched on or off."""

    def __init__(
        self,
        model: nn.Module,
        batch: dict[str, torch.Tensor],
        optimizer: torch.optim.Optimizer,
        dtype: torch.dtype,
    ) -> None:
        self.model, self.batch, self.optimizer, self.dtype = model, batch, optimizer, dtype
        self.device = batch["input_ids"].device

    def __call__(self, steps: int) -> None:
        """Train for some steps."""
        for _ in range(steps):
            mixed = self.dtype != torch.float32
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=mixed):
                loss = self.model(**self.batch).loss
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()


def encoder(shape: dict[str, float], device: torch.device) -> CamembertForSequenceClassification:
    """Build a classifier with random weights."""
    torch.manual_seed(0)
    return CamembertForSequenceClassification(CamembertConfig(pad_token_id=1, **shape)).to(device).train()


def encoder_batch(texts: int, tokens: int, device: torch.device) -> dict[str, torch.Tensor]:
    """Make a batch of random pieces, without padding: (texts, tokens)."""
    ids = torch.randint(5, 32_005, (texts, tokens), device=device)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids[:, 0] % 2}


def fine_tuning(options: argparse.Namespace, device: torch.device) -> Iterator[Row]:
    """CamemBERT-base, every weight trained: a plain loop, sped up step by step, and the notebooks' way."""
    texts, tokens = options.batch, options.tokens
    flops = texts * model_flops(CamembertConfig(**CAMEMBERT_BASE), tokens, weight_gradients=True)
    bf16 = torch.bfloat16
    variants = [("float32", torch.float32, False, False, False)]
    if device.type == "cuda":
        variants.append(("float32, TF32", torch.float32, False, False, True))
    variants += [
        ("float32, fused optimizer", torch.float32, True, False, False),
        ("bfloat16, fused optimizer", bf16, True, False, False),
        ("bfloat16, fused, torch.compile", bf16, True, True, False),
    ]
    rates = {
        dtype: options.peak_tflops * 1e12 or matmul_rate(device, dtype) for dtype in (torch.float32, bf16)
    }
    for name, dtype, fused, compiled, tf32 in variants:
        torch.backends.cuda.matmul.allow_tf32 = tf32
        model = encoder(CAMEMBERT_BASE, device)
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5, eps=1e-8, weight_decay=0.0, fused=fused)
        # "reduce-overhead" and "max-autotune" would take minutes more to compile
        runner = torch.compile(model) if compiled else model
        loop = Loop(runner, encoder_batch(texts, tokens, device), optimizer, dtype)
        taken = seconds_a_step(loop, options.steps, device)
        yield name, _row(taken, texts * tokens, flops, rates[dtype])
    torch.backends.cuda.matmul.allow_tf32 = False
    trainer = partial(_train_as_notebooks_do, texts=texts, tokens=tokens, device=device)
    taken = seconds_a_step(trainer, options.steps, device)
    used = bf16 if device.type == "cuda" else torch.float32
    yield "the notebooks' Trainer", _row(taken, texts * tokens, flops, rates[used])


def _train_as_notebooks_do(steps: int, *, texts: int, tokens: int, device: torch.device) -> None:
    batch = encoder_batch(texts * steps, tokens, torch.device("cpu"))
    run_trainer(
        Trainer,
        model=encoder(CAMEMBERT_BASE, device),
        train_dataset=Dataset.from_dict({name: tensor.tolist() for name, tensor in batch.items()}),
        data_collator=default_data_collator,
        seed=0,
        device=device,
        num_train_epochs=1,
        per_device_train_batch_size=texts,
        learning_rate=2e-5,
    )


def ensemble(options: argparse.Namespace, device: torch.device) -> Iterator[Row]:
    """Several seeds fine-tuned with the paper's batch of 4: one after the other, and side by side."""
    shape = CAMEMBERT_BASE if device.type == "cuda" else SMALL_ENCODER
    tokens, seeds = options.tokens, range(options.seeds)
    words = {f"w{number}": number for number in range(shape["vocab_size"])}
    words["<pad>"] = words.pop("w1")
    by_word = Tokenizer(models.WordLevel(words, unk_token="w0"))  # noqa: S106 - a token, not a password
    by_word.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=by_word, pad_token="<pad>", unk_token="w0")  # noqa: S106

    def training(steps: int) -> dict[str, object]:
        drawn = torch.randint(5, len(words), (steps * BATCH, tokens), generator=torch.manual_seed(0))
        return {
            "texts": [" ".join(f"w{number}" for number in text) for text in drawn.tolist()],
            "labels": [text % 2 for text in range(steps * BATCH)],
            "epochs": 1,
            "learning_rate": 2e-5,
            "batch_size": BATCH,
            "max_length": tokens,
        }

    def one_by_one(steps: int) -> None:
        for seed in seeds:
            given = training(steps)
            fine_tune(
                encoder(shape, device), tokenizer, given.pop("texts"), given.pop("labels"), seed=seed, **given
            )

    def together(steps: int) -> None:
        given = training(steps)
        built = [encoder(shape, device) for _ in seeds]
        fine_tune_together(
            built, tokenizer, given.pop("texts"), given.pop("labels"), seeds=list(seeds), **given
        )

    flops = len(seeds) * BATCH * model_flops(CamembertConfig(**shape), tokens, weight_gradients=True)
    rate = options.peak_tflops * 1e12 or matmul_rate(device, torch.float32)
    for name, train in (("one at a time", one_by_one), ("side by side", together)):
        taken = seconds_a_step(train, options.steps, device)
        yield f"{len(seeds)} seeds, {name}", _row(taken, len(seeds) * BATCH * tokens, flops, rate)


def qlora(options: argparse.Namespace, device: torch.device) -> Iterator[Row]:
    """Adapters of rank 8 on a decoder of 7B shape in 4 bits, and on the same decoder in full precision."""
    on_gpu = device.type == "cuda"
    config = LlamaConfig(**(SEVEN_BILLION if on_gpu else SMALL_DECODER))
    dtype = torch.bfloat16 if on_gpu else torch.float32
    flops = options.batch * model_flops(config, options.tokens, weight_gradients=False)
    rate = options.peak_tflops * 1e12 or matmul_rate(device, dtype)
    ids = torch.randint(config.vocab_size, (options.batch, options.tokens), device=device)
    for name, four_bit in (("NF4, twice quantised", True), (str(dtype).removeprefix("torch."), False)):
        if on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        base = decoder(config, device, dtype, four_bit=four_bit)
        weights = sum(parameter.nbytes for parameter in base.parameters())
        if four_bit:
            base = prepare_model_for_kbit_training(base, use_gradient_checkpointing=on_gpu)
        elif on_gpu:
            base.gradient_checkpointing_enable()
            base.enable_input_require_grads()
        model = get_peft_model(base, LoraConfig(r=8, lora_alpha=32, lora_dropout=0.05, task_type="CAUSAL_LM"))
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=2e-4, fused=True)
        loop = Loop(model.train(), {"input_ids": ids, "labels": ids}, optimizer, dtype)
        taken = seconds_a_step(loop, options.steps, device)
        row = _row(taken, ids.numel(), flops, rate)
        row["weights, GB"] = weights / 1e9
        if on_gpu:
            row["peak, GB"] = torch.cuda.max_memory_allocated() / 1e9
        yield name, row
        del base, model, optimizer, loop, trained


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


def _row(taken: tuple[float, float], tokens: int, flops: float, rate: float) -> dict[str, float]:
    first, step = taken
    return {
        "first step, s": first,
        "ms a step": step * 1e3,
        "tokens/s": tokens / step,
        "TFLOP/s": flops / step / 1e12,
        "MFU, %": 100 * flops / step / rate,
    }


PARTS = {"fine-tuning": fine_tuning, "ensemble": ensemble, "qlora": qlora}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--batch", type=int, default=BATCH, help="texts a step (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=128, help="of each text (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=5, help="that are timed (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=4, help="of the ensemble (default: %(default)s)")
    parser.add_argument("--peak-tflops", type=float, default=0.0, help="instead of the rate measured")
    options = parser.parse_args()
    there = torch.cuda.is_available()
    if options.device == "cuda" and not there:
        parser.error(
            "--device cuda: there is no CUDA device here; --device cpu measures ratios on small shapes"
        )
    device = torch.device("cuda" if there and options.device != "cpu" else "cpu")
    name = (
        torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    )
    print(f"{options.part} on {name}, torch {torch.__version__}, bitsandbytes {bnb.__version__}")
    if device.type == "cpu":
        shape = {"ensemble": SMALL_ENCODER, "qlora": SMALL_DECODER}.get(options.part)
        print(f"No GPU: only the ratios mean something{f'; shape {shape}' if shape else ''}.")
    baseline = None
    for row, numbers in PARTS[options.part](options, device):  # printed as they come: some take minutes
        if baseline is None:
            baseline = numbers["ms a step"]
            print(" " * 32, *(f"{column:>13}" for column in (*numbers, "times faster")))
        faster = baseline / numbers["ms a step"]
        print(f"{row:<32}", *(f"{value:13.3g}" for value in (*numbers.values(), faster)), flush=True)


if __name__ == "__main__":
    main()
