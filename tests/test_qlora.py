import json
import re
from dataclasses import replace

import bitsandbytes as bnb
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokenizers.processors import TemplateProcessing

from lib.errors import InputError
from lib.paper3.tables import NUMBERS, OTHER_RESULTS
from lib.qlora import Material, Pretrained, Reading, Recipe, Sources, Task, Trial
from lib.qlora.adapters import data_order, load_base, new_adapter, optimizer_states, save_adapter
from lib.qlora.causal_models import load_four_bit, load_tokenizer
from lib.qlora.scores import IGNORED, collate, complete, continuation_losses, text_losses
from lib.qlora.trial import _diverged_step, _texts, check_lengths
from lib.runs.provenance import input_fingerprints
from lib.seeding import fingerprint
from lib.texts.generated.mini_quotes import mini_quotes
from lib.tiny import pretrain_tiny

RECIPE = Recipe(epochs=1, learning_rate=2e-3)
EIGHT_BIT = replace(RECIPE, optimizer="paged_adamw_8bit")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # this model is too small for two
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    folder = pretrain_tiny(["tiny-llama"], seed=0, steps=60, cache_dir=cache)["tiny-llama"]
    quotes = mini_quotes(seed=0, count=30)["quote"][:]
    task = Task(
        quotes[:20],
        quotes[20:],
        prompts=["Your silence will", "Never trade"],
        questions=quotes[20:22],
        samples=2,
        new_tokens=8,
    )
    return Material({"m": str(folder)}, {"t": task}, cache / "adapters", "cpu")


def trial(recipe=RECIPE, seed=0, repetition=0, **sources):
    seeds = replace(Sources.same(seed), **sources)
    return Trial(seed, model="m", task="t", recipe=recipe, sources=seeds, repetition=repetition)


@pytest.fixture(scope="module")
def run(material):
    results = {}

    def once(*arguments, **named):
        asked = trial(*arguments, **named)
        if asked not in results:
            results[asked] = asked.carry_out(material=material)
        return results[asked]

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
def test_each_source_changes_only_what_it_determines(run, source):
    first, second = run(), run(**{source: 1})
    assert (first["initial_adapter"] == second["initial_adapter"]) == (source != "initialisation")
    assert (first["order"] == second["order"]) == (source != "order")
    assert first["adapter"] != second["adapter"]


def test_another_kernel_hardly_changes_the_perplexity(run):
    first, second = run(), run(replace(RECIPE, attention="eager"))
    assert first["initial_adapter"] == second["initial_adapter"]
    assert first["perplexity_unmerged"] == pytest.approx(second["perplexity_unmerged"], rel=1e-3)


def test_fine_tuning_lowers_the_perplexity(run, material):
    measured = [
        Pretrained(seed, model="m", task="t", compute="float32", max_length=512).carry_out(material=material)
        for seed in (0, 1)
    ]
    before = measured[0]["perplexity"]
    assert measured[1]["perplexity"] == before
    assert run()["perplexity_unmerged"] < before
    assert run()["perplexity"] < before


def test_an_8_bit_run_keeps_8_bit_states_and_a_quarter_of_the_bytes(run):
    eight, thirty_two = run(EIGHT_BIT), run()
    assert eight["state_dtypes"] == ["uint8"]
    assert thirty_two["state_dtypes"] == ["float32"]
    assert thirty_two["state_bytes"] == 8 * thirty_two["trained_parameters"]
    # two bytes per parameter, and for each moment a scale of four bytes per 256
    assert eight["state_bytes"] == 2 * eight["trained_parameters"] * (1 + 4 / 256)
    assert eight["adapter"] != thirty_two["adapter"]


def test_an_8_bit_run_without_8_bit_states_is_an_error(run):
    with pytest.raises(ValueError, match="keeps float32 states, not uint8: min_8bit_size = 4096"):
        run(replace(EIGHT_BIT, min_8bit_size=4096))


def test_a_diverged_run_is_a_result_and_names_the_step(run):
    result = run(replace(RECIPE, optimizer="adamw_torch", adapter="float16"))
    assert result["diverged_step"] is not None
    assert len(result["losses"]) == result["diverged_step"]  # it stopped there
    assert result["perplexity"] == np.inf
    assert result["completions"] == [["", ""], ["", ""]]
    assert result["cold_completions"] == ["", ""]


def test_scaling_the_loss_changes_only_rounding(run):
    scaled = run(replace(RECIPE, loss_scale=1024.0))
    assert scaled["losses"] == pytest.approx(run()["losses"], rel=1e-4)


def test_merging_rounds_and_changes_little(run):
    result = run()
    assert result["perplexity"] != result["perplexity_unmerged"]
    assert result["perplexity"] == pytest.approx(result["perplexity_unmerged"], rel=0.1)


def test_losses_by_text_add_up_to_the_perplexities(run):
    result = run()
    tokens = result["text_tokens"].sum()
    assert np.exp(result["merged_losses"].sum() / tokens) == pytest.approx(result["perplexity"])
    assert np.exp(result["text_losses"].sum() / tokens) == pytest.approx(result["perplexity_unmerged"])


def test_a_table_of_trials_knows_all_their_results(run):
    assert sorted(run()) == sorted([*NUMBERS, *OTHER_RESULTS])


def test_bytes_are_those_of_what_training_keeps(run):
    result = run()
    assert result["adapter_bytes"] == 4 * result["trained_parameters"]
    assert result["vocabulary"] > 500


def test_the_adapter_is_saved_as_safetensors_under_its_fingerprint(run, material):
    weights = load_file(material.adapter_dir / run()["adapter"] / "adapter_model.safetensors")
    assert fingerprint(weights) == run()["adapter"]
    assert sum(weight.numel() for weight in weights.values()) == run()["trained_parameters"]


# peft calls transformers by a name that transformers is about to drop
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_adapters_start_at_zero_and_have_the_requested_type(material):
    recipe = replace(RECIPE, adapter="bfloat16")
    base = load_base(material.models["m"], recipe, torch.device("cpu"))
    before = fingerprint(base)
    adapter = new_adapter(base, recipe, seed=0)
    assert {matrix.dtype for matrix in adapter.values()} == {torch.bfloat16}
    assert {(matrix == 0).all().item() for name, matrix in adapter.items() if "lora_B" in name} == {True}
    assert fingerprint(base) == before


# peft calls transformers by a name that transformers is about to drop
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_an_adapter_is_saved_with_the_settings_and_the_type_it_was_trained_with(material, tmp_path):
    recipe = replace(RECIPE, rank=4, alpha=24, dropout=0.1, adapter="bfloat16")
    base = load_base(material.models["m"], recipe, torch.device("cpu"))
    before, adapter = fingerprint(base), new_adapter(base, recipe, seed=0)
    save_adapter(base, recipe, adapter, tmp_path / "a")
    settings = json.loads((tmp_path / "a" / "adapter_config.json").read_text(encoding="utf-8"))
    assert (settings["r"], settings["lora_alpha"], settings["lora_dropout"]) == (4, 24, 0.1)
    assert {min(matrix.shape) for matrix in adapter.values()} == {4}
    assert fingerprint(load_file(tmp_path / "a" / "adapter_model.safetensors")) == fingerprint(adapter)
    assert fingerprint(base) == before


def test_each_epoch_of_the_order_has_every_text_once():
    order = np.array(data_order(10, epochs=3, seed=0)).reshape(3, 10)
    assert (np.sort(order) == np.arange(10)).all()
    assert not (order[0] == order[1]).all()


def test_zero_second_moments_under_nonzero_first_ones_are_counted():
    weight = torch.nn.Parameter(torch.zeros(4))
    optimizer = torch.optim.AdamW([weight])
    optimizer.state[weight] = {
        "exp_avg": torch.tensor([1.0, 1.0, 0.0, 0.0]),
        "exp_avg_sq": torch.tensor([1.0, 0, 0, 0]),
    }
    states = optimizer_states(optimizer)
    assert states == {"state_dtypes": ["float32"], "state_bytes": 32, "starved": 0.25}


def test_a_prompt_without_room_for_its_completion_is_an_error_before_training(material, monkeypatch):
    monkeypatch.setattr("lib.qlora.trial.load_base", lambda *_: pytest.fail("was loaded"))
    task = replace(material.tasks["t"], prompts=["word " * 2_000])
    with pytest.raises(ValueError, match=r"a prompt of \d+ tokens, to be continued by 8, .* of 1024 tokens"):
        trial().carry_out(material=replace(material, tasks={"t": task}))


def test_a_text_of_one_token_is_refused_since_nothing_follows_that_could_be_learned(material):
    task = replace(material.tasks["t"], train=["two words", "a"], special_tokens=False)
    with pytest.raises(InputError, match="training text 1 has 1 tokens, allowed: 2 or more: 'a'"):
        check_lengths(task, material.models["m"])
    with pytest.raises(InputError, match="test text 0 has 0 tokens, allowed: 2 or more: ''"):
        check_lengths(replace(task, train=[], test=[""]), material.models["m"])


@pytest.mark.parametrize(("texts", "most"), [("prompts", "new_tokens"), ("questions", "answer_tokens")])
def test_a_prompt_or_question_may_leave_just_enough_room(material, texts, most):
    model = material.models["m"]
    room = 1024 - len(load_tokenizer(model)("Never trade")["input_ids"])
    task = replace(Task(["two words"], ["two words"]), **{texts: ["Never trade"], most: room})
    check_lengths(task, model)
    with pytest.raises(InputError, match=f"to be continued by {room + 1}, exceeds its context of 1024"):
        check_lengths(replace(task, **{most: room + 1}), model)


def test_material_is_identified_by_models_and_texts_alone(material, tmp_path):
    names = {"model/m", "task/t"}
    assert set(material.fingerprints) == names
    moved = replace(material, adapter_dir=tmp_path, device="cuda")
    assert moved.fingerprints == material.fingerprints
    other = replace(material, tasks={"t": replace(material.tasks["t"], new_tokens=9)})
    assert {name for name in names if other.fingerprints[name] != material.fingerprints[name]} == {"task/t"}


def test_a_trials_key_depends_on_its_own_model_and_task_alone(material):
    parts = input_fingerprints({"material": material})
    assert all(trial().depends_on(part) for part in parts)
    others = replace(material, models={"n": material.models["m"]}, tasks={"u": material.tasks["t"]})
    assert not any(trial().depends_on(part) for part in input_fingerprints({"material": others}))


@pytest.fixture(scope="module")
def base(material):
    model = material.models["m"]
    return load_four_bit(model, device=torch.device("cpu"), dtype=torch.float32), load_tokenizer(model)


def test_samples_of_a_prompt_differ_and_repeat_with_their_seed(base):
    model, tokenizer = base
    prompts = ["Your silence will", "Never trade", "Your courage will"]
    first, again, other = (
        complete(model, prompts, tokenizer, new_tokens=8, seed=seed, samples=3) for seed in (0, 0, 1)
    )
    assert [len(texts) for texts in first] == [3, 3, 3]
    assert first == again != other
    assert len(set(first[0])) == 3
    assert complete(model, [], tokenizer, new_tokens=8, seed=0) == []


def test_a_prompt_is_completed_alike_whatever_longer_or_shorter_prompts_stand_beside_it(base):
    model, tokenizer = base
    alone = complete(model, ["Never trade"], tokenizer, new_tokens=8, seed=0, samples=2)
    longer = "Your silence will be remembered by your friends"
    assert len(tokenizer(longer)["input_ids"]) > len(tokenizer("Never trade")["input_ids"])
    beside = complete(model, [longer, "Never trade"], tokenizer, new_tokens=8, seed=0, samples=2)
    assert beside[1] == alone[0]


def test_a_continuation_has_the_loss_that_the_whole_text_has_beyond_its_prompt(base):
    model, tokenizer = base
    prompts, continuations = ["Your silence will", "Never trade"], ["not protect you.", ""]
    losses, tokens = continuation_losses(model, prompts, continuations, tokenizer)
    whole, _ = text_losses(model, ["Your silence will not protect you."], tokenizer)
    asked, asked_tokens = text_losses(model, ["Your silence will"], tokenizer)
    assert losses[0] == pytest.approx(whole[0] - asked[0], rel=1e-5)
    ids = tokenizer("Your silence will not protect you.")["input_ids"]
    assert tokens.tolist() == [len(ids) - 1 - asked_tokens[0], 0]
    assert losses[1] == 0
    assert continuation_losses(model, ["a"], [""], tokenizer)[1].tolist() == [0]


def test_a_reading_scores_continuations_under_the_base_model(material):
    reading = Reading(
        0, model="m", task="t", compute="float32", prompts=("Never trade",) * 2, continuations=("it.", "")
    )
    result = reading.carry_out(material=material)
    assert result["losses"][0] > 0
    assert result["tokens"].tolist()[1] == 0
    with pytest.raises(ValueError, match="prompts = 1: there are 0 continuations"):
        Reading(0, model="m", task="t", compute="float32", prompts=("a",), continuations=())
    with pytest.raises(ValueError, match="compute = 'int8': allowed: float32"):
        Reading(0, model="m", task="t", compute="int8", prompts=(), continuations=())


def test_what_is_given_is_read_but_not_learned(material, monkeypatch):
    seen = {}

    def stop(adapter, recipe, encoded, given, *_):
        seen.update(encoded=encoded, given=given)
        raise InterruptedError

    monkeypatch.setattr("lib.qlora.trial.Learner", stop)
    task = Task(["Never trade hope."], ["Never trade hope."], given=["Never trade"])
    for variant in (task, replace(task, given=[])):
        with pytest.raises(InterruptedError):
            trial().carry_out(material=replace(material, tasks={"t": variant}))
        seen[bool(variant.given)] = seen["given"]
    tokenizer = load_tokenizer(material.models["m"])
    assert 0 < seen[True][0] <= len(tokenizer("Never trade")["input_ids"])
    assert tokenizer.decode(seen["encoded"][0][seen[True][0] :]).endswith("hope.")
    assert seen[False] == [0]


@pytest.mark.parametrize("special", [True, False])
def test_training_texts_are_truncated_and_have_special_tokens_if_the_task_says_so(
    material, monkeypatch, special
):
    seen = []

    def stop(adapter, recipe, encoded, *_):
        seen.extend(encoded)
        raise InterruptedError

    tokenizer = load_tokenizer(material.models["m"])
    plain = tokenizer("Never trade hope for silence.", add_special_tokens=False)["input_ids"]
    beginning = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    monkeypatch.setattr(tokenizer.backend_tokenizer, "post_processor", beginning)
    monkeypatch.setattr("lib.qlora.trial.load_tokenizer", lambda model: tokenizer)
    monkeypatch.setattr("lib.qlora.trial.Learner", stop)
    task = Task(["Never trade hope for silence."], ["Never trade hope."], special_tokens=special)
    with pytest.raises(InterruptedError):
        trial(replace(RECIPE, max_length=4)).carry_out(material=replace(material, tasks={"t": task}))
    assert seen == [[1, *plain[:3]] if special else plain[:4]]


def test_test_texts_are_truncated_like_training_texts(run, material):
    assert run(replace(RECIPE, max_length=6))["text_tokens"].tolist() == [5] * 10
    before = Pretrained(0, model="m", task="t", compute="float32", max_length=6)
    assert before.carry_out(material=material)["text_tokens"].tolist() == [5] * 10


def test_a_trial_is_evaluated_in_the_type_and_with_the_kernel_of_its_recipe(material, monkeypatch):
    loaded = {}

    def stop(model, **how):
        loaded.update(how)
        raise InterruptedError

    monkeypatch.setattr("lib.qlora.trial.load_four_bit", stop)
    one = trial(replace(RECIPE, compute="bfloat16", attention="eager"))
    with pytest.raises(InterruptedError):
        one._evaluated("adapter", load_tokenizer(material.models["m"]), material)
    assert (loaded["dtype"], loaded["attention"]) == (torch.bfloat16, "eager")


def test_a_loss_that_is_nan_or_above_that_of_a_guess_is_a_divergence():
    assert _diverged_step(np.array([1.0, 2.0, 0.5]), bound=2.0) is None
    assert _diverged_step(np.array([1.0, 2.1, 0.5, np.nan]), bound=2.0) == 2
    assert _diverged_step(np.array([1.0, 2.0, np.nan]), bound=2.0) == 3


def test_a_trial_that_guesses_worse_than_at_random_has_diverged_although_its_losses_are_finite(
    material, monkeypatch
):
    guess = np.log(len(load_tokenizer(material.models["m"])))

    def train(base, learners, at_a_time):
        learners[0].losses = [guess - 0.01, guess + 0.01, guess + 1]

    monkeypatch.setattr("lib.qlora.trial.train_side_by_side", train)
    monkeypatch.setattr(Trial, "_evaluated", lambda *_: {})
    assert trial().carry_out(material=material)["diverged_step"] == 2


def test_prompts_are_sampled_warm_and_cold_and_questions_are_answered_greedily(monkeypatch):
    asked = []

    def sampled(model, prompts, tokenizer, *, temperature=1.0, top_p=1.0, samples=1, **how):
        asked.append((prompts, how["new_tokens"], how["seed"], samples, temperature, top_p))
        assert how["special_tokens"] is False
        return [[f"{how['seed']} of {prompt}"] * samples for prompt in prompts]

    monkeypatch.setattr("lib.qlora.trial.complete", sampled)
    task = Task([], [], prompts=["p", "q"], questions=["?"], samples=2, new_tokens=3, answer_tokens=7)
    task = replace(task, special_tokens=False)
    texts = _texts(None, None, task, finite=True)
    prompts, questions = ["p", "q"], ["?"]
    assert sorted(asked, key=str) == sorted(
        [
            (prompts, 3, 0, 2, 1.0, 1.0),
            (prompts, 3, 0, 1, 0.1, 0.1),
            (prompts, 3, 1, 1, 0.1, 0.1),
            (questions, 7, 0, 1, 1.0, 1e-6),
        ],
        key=str,
    )
    assert texts["cold_completions"] == ["0 of p", "0 of q"]
    assert texts["cold_completions_again"] == ["1 of p", "1 of q"]
    assert texts["answers"] == ["0 of ?"]
    monkeypatch.setattr("lib.qlora.trial.choose", lambda *_, **how: [1, 0])
    choosing = replace(task, questions=["?", "!"], options=["no", "yes"])
    assert _texts(None, None, choosing, finite=True)["answers"] == ["yes", "no"]


def test_labels_mask_what_is_not_learned():
    batch = collate([{"input_ids": [5, 6, 7], "labels": [IGNORED, 6, 7]}, {"input_ids": [8, 9]}])
    assert batch["labels"].tolist() == [[IGNORED, 6, 7], [8, 9, IGNORED]]
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 9, 0]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"optimizer": "sgd"},
            "optimizer = 'sgd': allowed: paged_adamw_8bit, paged_adamw_32bit, adamw_torch",
        ),
        ({"compute": "float64"}, "compute = 'float64': allowed: float32, bfloat16, float16"),
        ({"attention": "flash"}, "attention = 'flash': allowed: sdpa, eager"),
        ({"learning_rate": 0.0}, "learning_rate = 0.0: a number above 0 is required"),
        ({"loss_scale": 0.0}, "loss_scale = 0.0: a number above 0 is required"),
        ({"adapter": "int8"}, "adapter = 'int8': allowed: float32, bfloat16, float16"),
        ({"schedule": "cosine"}, "schedule = 'cosine': allowed: linear, constant"),
        ({"epsilon": -1e-8}, "epsilon = -1e-08: allowed: 0 or above"),
        ({"dropout": 1.0}, "dropout = 1.0: allowed: at least 0 and below 1"),
    ],
)
def test_a_wrong_recipe_is_an_error(change, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Recipe(**change)


def test_a_measurement_before_fine_tuning_is_carried_out_alone():
    first, second = (
        Pretrained(seed, model="m", task="t", compute="float32", max_length=8) for seed in (0, 1)
    )
    assert first.shared != second.shared
    assert trial().shared == trial(EIGHT_BIT, seed=1, repetition=1).shared
    for change in (
        {"rank": 4},
        {"batch_size": 2},
        {"compute": "bfloat16"},
        {"adapter": "bfloat16"},
        {"attention": "eager"},
    ):
        assert trial().shared != trial(replace(RECIPE, **change)).shared


def test_a_wrong_measurement_of_a_pretrained_model_is_an_error():
    with pytest.raises(ValueError, match="compute = 'int8': allowed: float32"):
        Pretrained(0, model="m", task="t", compute="int8", max_length=512)
    with pytest.raises(ValueError, match="max_length = 1: at least 2 tokens are required"):
        Pretrained(0, model="m", task="t", compute="float32", max_length=1)


def test_starved_moments_are_a_share_of_the_entries_of_all_matrices():
    weights = [torch.nn.Parameter(torch.zeros(size)) for size in (6, 2)]
    optimizer = torch.optim.AdamW(weights)
    for weight in weights:
        optimizer.state[weight] = {"exp_avg": torch.ones(len(weight)), "exp_avg_sq": torch.ones(len(weight))}
    optimizer.state[weights[0]]["exp_avg_sq"][:3] = 0
    states = optimizer_states(optimizer)
    assert states["starved"] == pytest.approx(3 / 8)
    assert states["state_bytes"] == 2 * 8 * 4
    assert optimizer_states(torch.optim.AdamW(weights))["starved"] == 0


def test_each_8_bit_moment_is_decoded_by_its_own_map():
    weight = torch.nn.Parameter(torch.zeros(512))
    optimizer = torch.optim.AdamW([weight])
    first, second = (bnb.functional.create_dynamic_map(signed=signed) for signed in (True, False))
    zero, one = int((first == 0).nonzero()), len(first) - 1
    optimizer.state[weight] = {
        "state1": torch.tensor([one] * 300 + [zero] * 212, dtype=torch.uint8),
        "state2": torch.tensor([one] * 200 + [0] * 312, dtype=torch.uint8),  # the second map begins with 0
        "absmax1": torch.ones(2),
        "absmax2": torch.ones(2),
        "qmap1": first,
        "qmap2": second,
    }
    states = optimizer_states(optimizer)
    assert states == {"state_dtypes": ["uint8"], "state_bytes": 2 * 512 + 4 * 4, "starved": 100 / 512}
