from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from safetensors.torch import load_file

from lib.paper3.tables import letter
from lib.paper3.trials import explosion_candidates, factorial, label_task
from lib.qlora.adapters import data_order, new_adapter, optimizer_states
from lib.qlora.recipes import Recipe, Task, run_of
from lib.qlora.trial import pretrained, trial
from lib.seeding import fingerprint
from lib.texts.generated.mini_quotes import mini_quotes
from lib.tiny.causal import pretrain_tiny

RECIPE = Recipe(epochs=1, learning_rate=2e-3)
EIGHT_BIT = replace(RECIPE, optimizer="paged_adamw_8bit")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # this model is too small for two
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    folder = pretrain_tiny(["tiny-llama"], seed=0, steps=60, cache_dir=cache)["tiny-llama"]
    quotes = mini_quotes(seed=0, count=30)["quote"][:]
    task = Task(
        quotes[:20], quotes[20:], prompts=["Your silence will"], questions=quotes[20:22], new_tokens=8
    )
    return {"models": {"m": str(folder)}, "tasks": {"t": task}, "adapter_dir": cache / "adapters"}


@pytest.fixture(scope="module")
def run(inputs):
    done = {}

    def once(recipe=RECIPE, seed=0, repetition=0, **sources):
        key = (recipe, seed, repetition, tuple(sources.items()))
        if key not in done:
            settings = run_of(
                seed, "m", "t", recipe, device="cpu", deterministic=True, repetition=repetition, **sources
            )
            done[key] = trial(**settings, **inputs)
        return done[key]

    return once


REPEATED = (
    "initial_adapter",
    "adapter",
    "order",
    "losses",
    "text_losses",
    "perplexity",
    "completions",
    "answers",
)


@pytest.mark.parametrize("recipe", [RECIPE, EIGHT_BIT], ids=["32-bit", "8-bit"])
def test_on_a_cpu_the_same_seeds_give_the_same_bits(run, recipe):
    first, second = run(recipe), run(recipe, repetition=1)
    for name in REPEATED:
        assert fingerprint(first[name]) == fingerprint(second[name]), name


def test_another_seed_gives_another_adapter(run):
    first, second = run(), run(seed=1)
    for name in ("initial_adapter", "order", "adapter", "losses"):
        assert fingerprint(first[name]) != fingerprint(second[name]), name


@pytest.mark.parametrize("source", ["initialisation", "order", "dropout"])
def test_each_source_changes_what_it_rules_and_nothing_else_before_training(run, source):
    first, second = run(), run(**{source: 1})
    assert (first["initial_adapter"] == second["initial_adapter"]) == (source != "initialisation")
    assert (first["order"] == second["order"]) == (source != "order")
    assert first["adapter"] != second["adapter"]


def test_another_kernel_changes_bits_and_hardly_the_perplexity(run):
    first, second = run(), run(replace(RECIPE, attention="eager"))
    assert first["initial_adapter"] == second["initial_adapter"]
    assert first["perplexity_unmerged"] == pytest.approx(second["perplexity_unmerged"], rel=1e-3)


def test_fine_tuning_lowers_the_perplexity(run, inputs):
    shared = {name: inputs[name] for name in ("models", "tasks")}
    measured = [
        pretrained(seed=seed, model="m", task="t", device="cpu", compute="float32", max_length=512, **shared)[
            "perplexity"
        ]
        for seed in (0, 1)
    ]
    assert measured[0] == measured[1]
    assert run()["perplexity_unmerged"] < measured[0]
    assert run()["perplexity"] < measured[0]


def test_an_8_bit_run_keeps_8_bit_states_and_a_quarter_of_the_bytes(run):
    eight, thirty_two = run(EIGHT_BIT), run()
    assert eight["state_dtypes"] == ["uint8"]
    assert thirty_two["state_dtypes"] == ["float32"]
    assert thirty_two["state_bytes"] == 8 * thirty_two["trained_parameters"]
    # two bytes a parameter, and for each moment a scale of four bytes for 256
    assert eight["state_bytes"] == 2 * eight["trained_parameters"] * (1 + 4 / 256)
    assert eight["adapter"] != thirty_two["adapter"]


def test_an_8_bit_run_without_8_bit_states_is_an_error(run):
    with pytest.raises(ValueError, match="keeps float32 states, not uint8: min_8bit_size = 4096"):
        run(replace(EIGHT_BIT, min_8bit_size=4096))


def test_a_diverged_run_is_a_result_with_its_step(run):
    result = run(replace(RECIPE, optimizer="adamw_torch", adapter="float16"))
    assert result["diverged_step"] is not None
    assert len(result["losses"]) == result["diverged_step"]  # it stopped there
    assert result["perplexity"] == np.inf
    assert result["completions"] == [""]


def test_scaling_the_loss_changes_nothing_but_rounding(run):
    scaled = run(replace(RECIPE, loss_scale=1024.0))
    assert scaled["losses"] == pytest.approx(run()["losses"], rel=1e-4)


def test_merging_rounds_and_changes_little(run):
    result = run()
    assert result["perplexity"] != result["perplexity_unmerged"]
    assert result["perplexity"] == pytest.approx(result["perplexity_unmerged"], rel=0.1)


def test_the_adapter_is_kept_as_safetensors_under_its_fingerprint(run, inputs):
    weights = load_file(inputs["adapter_dir"] / run()["adapter"] / "adapter_model.safetensors")
    assert fingerprint(weights) == run()["adapter"]
    assert sum(weight.numel() for weight in weights.values()) == run()["trained_parameters"]


# peft asks transformers by a name that transformers will drop
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_adapters_start_as_nothing_and_have_the_type_that_was_asked_for(inputs):
    model = new_adapter(
        inputs["models"]["m"], replace(RECIPE, adapter="bfloat16"), torch.device("cpu"), seed=0
    )
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    assert {weight.dtype for weight in trained.values()} == {torch.bfloat16}
    assert all((weight == 0).all() for name, weight in trained.items() if "lora_B" in name)


def test_each_epoch_of_the_order_holds_every_text_once():
    order = np.array(data_order(10, epochs=3, seed=0)).reshape(3, 10)
    assert (np.sort(order) == np.arange(10)).all()
    assert not (order[0] == order[1]).all()


def test_a_second_moment_of_zero_under_a_first_that_is_not_is_counted():
    weight = torch.nn.Parameter(torch.zeros(4))
    optimizer = torch.optim.AdamW([weight])
    optimizer.state[weight] = {
        "exp_avg": torch.tensor([1.0, 1.0, 0.0, 0.0]),
        "exp_avg_sq": torch.tensor([1.0, 0, 0, 0]),
    }
    states = optimizer_states(optimizer)
    assert states == {"state_dtypes": ["float32"], "state_bytes": 32, "starved": 0.25}


def test_a_factorial_design_holds_every_combination_once():
    design = factorial(3, first_seed=5)
    assert len({(*sources.values(), kernel) for sources, kernel in design}) == len(design) == 54
    assert {seed for sources, _ in design for seed in sources.values()} == {5, 6, 7}


def test_single_changes_come_before_combinations():
    candidates = explosion_candidates(RECIPE)
    changed = {
        name: sum(getattr(recipe, field) != getattr(RECIPE, field) for field in RECIPE.__dataclass_fields__)
        for name, recipe in candidates.items()
    }
    assert changed["none"] == 0
    assert list(changed.values()) == sorted(changed.values())


def test_a_prompt_without_room_for_its_completion_is_refused_before_training(inputs, monkeypatch):
    monkeypatch.setattr("lib.qlora.train", lambda *_: pytest.fail("was trained"))
    task = replace(inputs["tasks"]["t"], prompts=["word " * 2_000])
    settings = run_of(0, "m", "long", RECIPE, device="cpu", deterministic=True)
    with pytest.raises(ValueError, match=r"a prompt has \d+ tokens and is to get 8 more: .* at most 1024"):
        trial(**settings, **inputs | {"tasks": {"long": task}})


def test_a_text_is_asked_for_its_class_and_answered_by_name():
    labels = ClassLabel(names=["negative", "positive"])
    rows = {"text": ["bon", "nul"], "label": [1, 0]}
    split = Dataset.from_dict(rows, features=Features({"text": Value("string"), "label": labels}))
    task, true = label_task("llama", DatasetDict(train=split, test=split))
    assert task.train[0] == "<s><INST>bon\nIs this negative or positive?</INST>positive</s>"
    assert task.questions[1] == "<s><INST>nul\nIs this negative or positive?</INST>"
    assert task.options == ["negative", "positive"]
    assert true == ["positive", "negative"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A", "A"),
        ("It is (C).", "C"),
        ("B: a pear", "B"),
        ("A pear. The answer is D because", "D"),
        ("A tired traveller", "—"),
        ("Because", "—"),
        ("", "—"),
    ],
)
def test_the_letter_of_an_answer(text, found):
    assert letter(text) == found


def test_unknown_sources_and_optimizers_are_refused():
    common = {"device": "cpu", "deterministic": True}
    with pytest.raises(ValueError, match="source 'weather': allowed: initialisation, order, dropout"):
        run_of(0, "m", "t", RECIPE, **common, weather=1)
    with pytest.raises(ValueError, match="optimizer = 'sgd': allowed"):
        run_of(0, "m", "t", replace(RECIPE, optimizer="sgd"), **common)
