"""Trials beside others match the same trials alone, and a trial alone matches transformers' Trainer."""

from dataclasses import replace
from types import SimpleNamespace

import bitsandbytes as bnb
import numpy as np
import pytest
import torch
from datasets import Dataset
from fake_graphs import FakeGraphs, NoGraphs, use
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from transformers import GPT2Config, LlamaConfig, Trainer

from lib.qlora import Material, Recipe, Sources, Task, Trial, adapters, side_by_side
from lib.qlora.adapters import (
    data_order,
    has_dropout,
    known_warnings,
    load_base,
    optimizer_states,
    prepare,
)
from lib.qlora.causal_models import load_config, load_tokenizer
from lib.qlora.memory import needed_bytes, trial_bytes, trials_that_fit
from lib.qlora.scores import IGNORED, collate
from lib.qlora.side_by_side import Learner, train_side_by_side
from lib.runs import sweep
from lib.seeding import derive, fingerprint, set_deterministic
from lib.texts.generated.mini_quotes import mini_quotes
from lib.tiny import pretrain_tiny
from lib.trainer import run_trainer

CPU = torch.device("cpu")
RECIPE = Recipe(epochs=1, learning_rate=2e-3, dropout=0.1)
EIGHT_BIT = replace(RECIPE, optimizer="paged_adamw_8bit")

pytestmark = pytest.mark.usefixtures("one_thread")  # the models are too small for two


@pytest.fixture(scope="module")
def quotes():
    return mini_quotes(seed=0, count=20)["quote"][:]


@pytest.fixture(scope="module")
def material(tmp_path_factory, quotes):
    cache = tmp_path_factory.mktemp("cache")
    folders = pretrain_tiny(["tiny-llama", "tiny-neox"], seed=0, steps=20, cache_dir=cache)
    models = {"llama": str(folders["tiny-llama"]), "neox": str(folders["tiny-neox"])}
    tasks = {"long": Task(quotes[:13], quotes[13:16]), "short": Task(quotes[16:], quotes[13:16])}
    return Material(models, tasks, cache / "adapters", "cpu")


def trial(seed, recipe=RECIPE, model="llama", task="long", repetition=0):
    return Trial(
        seed, model=model, task=task, recipe=recipe, sources=Sources.same(seed), repetition=repetition
    )


@pytest.fixture(scope="module")
def trained(material):
    """Train trials side by side, without evaluation; return each one's matrices and losses."""
    kept = {}

    def once(*trials):
        if trials not in kept:
            kept[trials] = train(material, trials)
        return kept[trials]

    return once


def train(material, trials, base=None, at_a_time=100):
    model, recipe = material.models[trials[0].model], trials[0].recipe
    with known_warnings():
        base = base or load_base(model, recipe, torch.device(material.device))
        learners = learners_of(material, trials, base)
        train_side_by_side(base, learners, at_a_time=at_a_time)
    return [(learner.adapter(), np.array(learner.losses)) for learner in learners]


def learners_of(material, trials, base):
    tokenizer = load_tokenizer(material.models[trials[0].model])
    return [one._learner(base, tokenizer, material.tasks[one.task])[0] for one in trials]


def differ(first, second):
    """Return the largest difference between the entries of two adapters."""
    return max(float((first[name].float() - second[name].float()).abs().max()) for name in first)


def assert_equal_to_rounding(first, second, recipe):
    """Compare two adapters; their largest difference may stem from a gradient that is all rounding.

    Adam divides such a gradient by its own size, and a few entries in ten thousand move by a part of the
    learning rate.
    """
    differences = torch.cat([(first[name].float() - second[name].float()).abs().flatten() for name in first])
    assert differences.max() < 1e-3
    if recipe.bits == "32-bit":
        assert differences.quantile(0.999) < 1e-5


MIXED = (
    trial(0),
    trial(1, EIGHT_BIT),
    trial(2, replace(RECIPE, learning_rate=1e-3, schedule="constant", dropout=0.0, alpha=16)),
    trial(3, replace(RECIPE, optimizer="adamw_torch", loss_scale=8.0, epochs=2)),
    trial(4, task="short"),
)


@pytest.mark.parametrize("model", ["llama", "neox"])
def test_a_trial_beside_others_is_that_trial_alone_up_to_rounding(trained, model):
    trials = [replace(one, model=model) for one in MIXED]
    for one, (adapter, losses) in zip(trials, trained(*trials), strict=True):
        ((alone, own_losses),) = trained(one)
        assert len(losses) == len(own_losses)
        # Rounding can move an 8-bit state to the next of 256 values, which is no longer rounding.
        bound = 1e-5 if one.recipe.bits == "32-bit" else 2e-2
        assert np.abs(losses - own_losses).max() < bound * losses.max()
        assert_equal_to_rounding(alone, adapter, one.recipe)


def test_the_same_company_gives_the_same_bits(trained, material):
    first, again = trained(*MIXED[:2]), train(material, MIXED[:2])
    for (adapter, losses), (repeated, own_losses) in zip(first, again, strict=True):
        assert all(torch.equal(adapter[name], repeated[name]) for name in adapter)
        assert (losses == own_losses).all()
    without = trial(0, replace(RECIPE, dropout=0.0))
    assert differ(trained(without)[0][0], first[0][0]) > 1e-3  # what is dropped counts


def test_trials_have_sources_of_their_own(trained):
    (first, _), (second, _) = trained(trial(0), trial(1))
    (swapped, _), (other, _) = trained(trial(1), trial(0))
    assert differ(first, other) < 1e-5
    assert differ(second, swapped) < 1e-5
    assert differ(first, second) > 1e-3


def by_transformers(material, one):
    """Train a trial with transformers' Trainer and peft's layers."""
    recipe, task, model = one.recipe, material.tasks[one.task], material.models[one.model]
    ids = load_tokenizer(model)(task.train, truncation=True, max_length=recipe.max_length)["input_ids"]
    base = load_base(model, recipe, CPU)
    torch.manual_seed(derive(one.sources.initialisation, "initialisation"))
    adapted = get_peft_model(
        base, LoraConfig(r=recipe.rank, lora_alpha=recipe.alpha, lora_dropout=0, task_type="CAUSAL_LM")
    )
    losses = []

    class Recorded(Trainer):
        def compute_loss(self, *arguments, **named):
            loss = super().compute_loss(*arguments, **named)
            losses.append(loss.item())
            return loss

        def get_optimizer_cls_and_kwargs(self, *arguments):
            kind, options = super().get_optimizer_cls_and_kwargs(*arguments)
            return kind, options | ({"min_8bit_size": 1} if recipe.bits == "8-bit" else {})

    order = data_order(len(ids), recipe.epochs, one.sources.order)
    run_trainer(
        Recorded,
        model=adapted,
        train_dataset=Dataset.from_dict({"input_ids": ids, "labels": ids}).select(order),
        data_collator=collate,
        seed=0,
        device=CPU,
        optim=recipe.optimizer,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=recipe.schedule,
        num_train_epochs=1,
        per_device_train_batch_size=recipe.batch_size,
        adam_epsilon=recipe.epsilon,
        max_grad_norm=1.0,
        logging_strategy="no",
    )
    return get_peft_model_state_dict(adapted), np.array(losses)


@pytest.mark.parametrize("optimizer", ["paged_adamw_32bit", "paged_adamw_8bit", "adamw_torch"])
def test_without_dropout_a_trial_is_what_transformers_trains(trained, material, optimizer):
    recipe = replace(RECIPE, dropout=0.0, optimizer=optimizer, batch_size=2, epochs=2, rank=4)
    one = trial(5, recipe)
    with known_warnings():
        expected, expected_losses = by_transformers(material, one)
    ((adapter, losses),) = trained(one)
    assert adapter.keys() == expected.keys()
    tolerance = 1e-5 if recipe.bits == "32-bit" else 2e-2
    np.testing.assert_allclose(losses, expected_losses, rtol=tolerance)
    assert differ(expected, adapter) < (1e-5 if recipe.bits == "32-bit" else 1e-3)


def test_a_short_last_batch_and_longer_company_change_nothing(trained):
    batches = replace(RECIPE, batch_size=4)
    long, short = trial(0, batches), trial(1, batches, task="short")  # 13 texts end in a batch of one
    (adapter, losses), _ = trained(long, short)
    ((alone, own_losses),) = trained(long)
    assert losses == pytest.approx(own_losses, rel=1e-5)
    assert_equal_to_rounding(alone, adapter, RECIPE)


def test_a_diverged_trial_stops_and_leaves_the_others_as_they_are(trained):
    exploding = trial(1, replace(RECIPE, learning_rate=1.0, epsilon=0.0, alpha=32_000_000))
    (adapter, losses), (_, diverged) = trained(trial(0), exploding)
    assert not np.isfinite(diverged[-1])
    assert np.isfinite(diverged[:-1]).all()
    assert len(diverged) < len(losses) == 13
    assert_equal_to_rounding(trained(trial(0))[0][0], adapter, RECIPE)


def test_recomputed_layers_drop_the_same_entries(trained, material):
    with known_warnings():
        base = load_base(material.models["llama"], RECIPE, CPU)
        base.gradient_checkpointing_enable({"use_reentrant": False})
    (adapter, losses), _ = train(material, (trial(0), trial(1)), base)
    assert losses == pytest.approx(trained(trial(0))[0][1], rel=1e-5)
    assert_equal_to_rounding(trained(trial(0))[0][0], adapter, RECIPE)


@pytest.mark.parametrize("recomputed", [False, True])
def test_captured_steps_train_the_same_trials(trained, material, monkeypatch, recomputed):
    results = []
    for graphs in (FakeGraphs(), NoGraphs()):
        use(monkeypatch, "lib.qlora.side_by_side", graphs)
        with known_warnings():
            base = load_base(material.models["llama"], RECIPE, CPU)
            if recomputed:
                base.gradient_checkpointing_enable({"use_reentrant": False, "preserve_rng_state": False})
        results.append(train(material, MIXED, base))
        assert isinstance(graphs, NoGraphs) or len(graphs.replayed) >= 5
    for one, (adapter, losses), (again, repeated) in zip(MIXED, *results, strict=True):
        assert losses.tolist() == repeated.tolist()
        assert differ(adapter, again) == 0
        ((alone, own_losses),) = trained(one)  # which is padded otherwise
        bound = 1e-5 if one.recipe.bits == "32-bit" else 2e-2
        assert np.abs(losses - own_losses).max() < bound * losses.max()
        assert_equal_to_rounding(alone, adapter, one.recipe)


def test_a_base_with_dropout_of_its_own_is_not_captured(material, monkeypatch):
    graphs = FakeGraphs()
    use(monkeypatch, "lib.qlora.side_by_side", graphs)
    with known_warnings():
        base = load_base(material.models["llama"], RECIPE, CPU)
        assert not has_dropout(load_config(material.models["neox"]))
    base.config.attention_dropout = 0.1
    train(material, (trial(0),), base)
    assert graphs.replayed == []


def test_out_of_memory_halves_the_trials_in_a_step_and_loses_none(trained, material, monkeypatch, caplog):
    trials = tuple(trial(seed) for seed in range(3))
    compute, steps = side_by_side._Adapted.gradients, []

    def small(adapted, input_ids, *rest):
        steps.append(len(input_ids))
        if len(input_ids) > 1 and len(steps) == 6:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return compute(adapted, input_ids, *rest)

    monkeypatch.setattr(side_by_side._Adapted, "gradients", small)
    results = train(material, trials)
    assert "out of memory with 3 trials side by side: 1 at a time from step 6 on" in caplog.text
    assert steps == [3] * 6 + [1] * (3 * 8)
    for one, (adapter, losses) in zip(trials, results, strict=True):
        ((alone, own_losses),) = trained(one)
        assert losses == pytest.approx(own_losses, rel=1e-5)
        assert_equal_to_rounding(alone, adapter, one.recipe)


def test_no_room_for_a_single_trial_is_an_error(material, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(side_by_side._Adapted, "gradients", full)
    with pytest.raises(torch.OutOfMemoryError):
        trial(0).carry_out(material=material)


def small_learner(recipe, encoded=((1, 2),), given=(0,), order=(0, 0, 0, 0), seed=0):
    stream = torch.Generator().manual_seed(0)
    adapter = {"a.lora_A.weight": torch.randn(8, 50, generator=stream), "a.lora_B.weight": torch.zeros(20, 8)}
    return Learner(adapter, recipe, encoded, given, order, seed)


def test_a_text_that_is_given_whole_still_teaches_its_last_token():
    learner = small_learner(RECIPE, [[5, 6, 7], [8, 9, 3]], given=[3, 1], order=[0, 1])
    assert [row["labels"] for (row,) in learner.batches] == [[IGNORED, IGNORED, 7], [IGNORED, 9, 3]]


def test_every_step_and_every_seed_drop_other_entries_at_the_recipes_rate():
    learner, same, other = (small_learner(RECIPE, seed=seed) for seed in (0, 0, 1))
    first = learner.draw(5_000)
    assert first.shape == (1, 2, 5_000)
    assert first.float().mean().item() == pytest.approx(0.9, abs=0.01)
    assert torch.equal(first, same.draw(5_000))
    assert not torch.equal(first, other.draw(5_000))
    learner.losses.append(1.0)
    assert not torch.equal(first, learner.draw(5_000))


def test_the_first_step_of_adam_is_that_by_hand_however_the_loss_is_scaled():
    recipe = replace(RECIPE, optimizer="adamw_torch", epsilon=0.01)
    for loss_scale in (1.0, 1024.0):
        for norm in (0.5, 8.0):  # the second is clipped
            learner = small_learner(replace(recipe, loss_scale=loss_scale))
            before = learner.weights.detach().clone()
            gradient = torch.randn(before.shape, generator=torch.Generator().manual_seed(1))
            gradient *= norm / gradient.norm()
            learner.update(1.0, loss_scale * gradient)
            clipped = gradient / max(norm, 1)
            # Both moments are corrected for their start at 0, so their roots are the gradient's size.
            expected = before - recipe.learning_rate * clipped / (clipped.abs() + 0.01)
            torch.testing.assert_close(learner.weights.detach(), expected, atol=1e-7, rtol=1e-5)


def test_a_gradient_that_overflows_in_half_precision_takes_no_step_and_leaves_the_rate(monkeypatch):
    monkeypatch.setattr(side_by_side, "mixed_type", lambda recipe, device: torch.float16)
    learner = small_learner(replace(RECIPE, optimizer="adamw_torch"))
    scale = learner.scaler.scale(torch.ones(())).item()
    before = learner.weights.detach().clone()
    learner.update(1.0, torch.full_like(before, torch.inf))
    assert torch.equal(learner.weights.detach(), before)
    assert learner.schedule.get_last_lr() == [RECIPE.learning_rate]
    halved = learner.scaler.get_scale()
    assert halved == scale / 2
    gradient = torch.ones_like(before) / before.numel() ** 0.5  # of norm 1, so it is just not clipped
    learner.update(1.0, halved * gradient)
    (state,) = learner.optimizer.state.values()
    torch.testing.assert_close(state["exp_avg"], 0.1 * gradient, atol=0, rtol=1e-4)
    assert learner.schedule.get_last_lr() == [pytest.approx(RECIPE.learning_rate * 3 / 4)]


@pytest.mark.parametrize(
    ("device", "adapter", "compute", "expected"),
    [
        ("cuda", "float32", "bfloat16", torch.bfloat16),
        ("cuda", "float32", "float16", torch.float16),
        ("cuda", "float32", "float32", None),
        ("cuda", "bfloat16", "bfloat16", None),
        ("cpu", "float32", "bfloat16", None),
    ],
)
def test_only_32_bit_adapters_on_a_gpu_are_trained_in_mixed_precision(device, adapter, compute, expected):
    recipe = replace(RECIPE, adapter=adapter, compute=compute)
    assert side_by_side.mixed_type(recipe, torch.device(device)) is expected


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_layers_are_recomputed_on_a_gpu_alone_with_the_generators_state_if_they_drop(monkeypatch, dropout):
    asked = {}
    monkeypatch.setattr(adapters, "prepare_model_for_kbit_training", lambda base, **how: asked.update(how))
    config = LlamaConfig(attention_dropout=dropout)
    for device in ("cpu", "cuda"):
        prepare(SimpleNamespace(config=config, device=torch.device(device)))
        assert asked["use_gradient_checkpointing"] == (device == "cuda")
        assert asked["gradient_checkpointing_kwargs"]["preserve_rng_state"] == (dropout > 0)


def test_dropout_is_found_by_any_of_its_names():
    without = {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0, "summary_first_dropout": 0.0}
    assert not has_dropout(GPT2Config(**without))
    assert has_dropout(GPT2Config(**without | {"resid_pdrop": 0.1}))
    assert has_dropout(LlamaConfig(attention_dropout=0.1))


def test_8_bit_blocks_hold_entries_of_one_matrix_alone():
    torch.manual_seed(0)
    adapter = {"a.lora_A.weight": torch.randn(3, 50), "a.lora_B.weight": torch.randn(20, 3)}
    recipe = replace(EIGHT_BIT, rank=3)
    learner = Learner(adapter, recipe, [[1, 2]], [0], [0], seed=0)
    assert learner.weights.numel() == 512  # a block for each
    apart = [torch.nn.Parameter(matrix.clone()) for matrix in adapter.values()]
    reference = side_by_side._optimizer(apart[0], recipe)
    reference.add_param_group({"params": [apart[1]]})
    with known_warnings():
        for _ in range(5):
            gradients = [
                torch.randn_like(matrix) * 10.0 ** -(3 * index) for index, matrix in enumerate(apart)
            ]
            learner.weights.grad = side_by_side._flat(dict(zip(adapter, gradients, strict=True)))
            for matrix, gradient in zip(apart, gradients, strict=True):
                matrix.grad = gradient
            learner.optimizer.step()
            reference.step()
    for matrix, own in zip(apart, learner.adapter().values(), strict=True):
        assert torch.equal(matrix.detach(), own)


def test_records_say_who_was_beside_and_adapters_are_saved_alone(material, tmp_path):
    runs = [trial(0), trial(1, EIGHT_BIT, task="short"), trial(2, replace(RECIPE, batch_size=2)), trial(3)]
    records = sweep(runs, {"material": material}, name="s", cache_dir=tmp_path, together=3)
    assert [record.status for record in records] == ["done"] * 4
    assert [len(record["company"]) for record in records] == [2, 2, 0, 2]  # another batch size trains alone
    assert [other["seed"] for other in records[1]["company"]] == [0, 3]
    assert records[0]["company"][0]["recipe"]["optimizer"] == "paged_adamw_8bit"
    assert [record["at_a_time"] for record in records] == [3, 3, 1, 3]
    alone = trial(0).carry_out(material=material)
    assert alone["company"] == []
    assert records[0]["initial_adapter"] == alone["initial_adapter"]
    assert records[0]["text_losses"] == pytest.approx(alone["text_losses"], rel=1e-4)
    assert records[0]["state_bytes"] == 8 * alone["trained_parameters"]


def test_an_estimate_covers_what_a_step_keeps(material):
    for name, model in material.models.items():
        for kernel in ("sdpa", "eager"):
            recipe = replace(RECIPE, attention=kernel)
            one, three = (kept_bytes(material, name, recipe, count) for count in (1, 3))
            kept = (three - one) / 2
            config = load_config(model)
            tokens = max(len(ids) for ids in load_tokenizer(model)(material.tasks["long"].train)["input_ids"])
            estimate = trial_bytes(config, recipe, tokens, parameters=1_000, recomputed=False)
            assert kept < estimate < 8 * kept


@known_warnings()
def kept_bytes(material, model, recipe, count):
    """Return the bytes of what autograd keeps of a step, the base's weights aside."""
    runs = [trial(0, recipe, model=model, repetition=number) for number in range(count)]
    base = load_base(material.models[model], recipe, CPU)
    learners = learners_of(material, runs, base)
    for learner in learners:  # a single step, on the longest text
        texts = [text for batch in learner.batches for text in batch]
        learner.batches = [[max(texts, key=lambda text: len(text["input_ids"]))]]
    own = {parameter.untyped_storage().data_ptr() for parameter in base.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        train_side_by_side(base, learners, at_a_time=count)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def test_as_many_trials_go_together_as_fit(material, monkeypatch, caplog):
    model = material.models["llama"]
    with known_warnings():
        learners = learners_of(material, [trial(seed) for seed in range(5)], load_base(model, RECIPE, CPU))
    config = load_config(model)
    assert trials_that_fit(config, learners, CPU) == 5
    needed = needed_bytes(model, RECIPE, 5, CPU)
    assert needed["all"] == needed["base"] + 5 * needed["one trial"]
    monkeypatch.setattr("lib.memory.free_bytes", lambda _: needed["one trial"] // 2)
    assert 1 <= trials_that_fit(config, learners, CPU) < 5
    monkeypatch.setattr("lib.memory.free_bytes", lambda _: 0)
    assert trials_that_fit(config, learners, CPU) == 1
    assert "trials side by side, beside the base: about" in caplog.text


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("compute", "bound"), [("float32", 1e-3), ("bfloat16", 0.1), ("float16", 0.1)])
def test_on_a_gpu_company_repeats_to_the_bit_and_changes_rounding_alone(material, compute, bound):
    on_gpu = replace(material, device="cuda")
    recipe = replace(RECIPE, compute=compute)
    runs = [trial(0, recipe), trial(1, replace(recipe, optimizer="paged_adamw_8bit")), trial(2, recipe)]
    runs.append(trial(3, recipe, task="short"))
    set_deterministic(True)
    try:
        first, again = (Trial.carry_out_together(runs, material=on_gpu) for _ in range(2))
        alone = [run.carry_out(material=on_gpu) for run in runs]
    finally:
        set_deterministic(False)
    for mine, repeated, own in zip(first, again, alone, strict=True):
        assert mine["initial_adapter"] == own["initial_adapter"]
        assert mine["adapter"] == repeated["adapter"]
        assert fingerprint(mine["losses"]) == fingerprint(repeated["losses"])
        assert len(mine["losses"]) == len(own["losses"])
        assert np.abs(mine["losses"] - own["losses"]).max() < bound
        assert mine["perplexity_unmerged"] == pytest.approx(own["perplexity_unmerged"], rel=bound)
    assert first[1]["state_dtypes"] == ["uint8"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("model", ["llama", "neox"])
def test_on_a_gpu_capturing_changes_no_bit(material, monkeypatch, model):
    on_gpu = replace(material, device="cuda")
    trials = [replace(one, model=model, recipe=replace(one.recipe, compute="bfloat16")) for one in MIXED]
    set_deterministic(True)
    try:
        captured = train(on_gpu, trials)
        monkeypatch.setattr(side_by_side, "graphs_for", lambda device, capture: None)
        uncaptured = train(on_gpu, trials)
    finally:
        set_deterministic(False)
    for (adapter, losses), (again, repeated) in zip(captured, uncaptured, strict=True):
        assert losses.tolist() == repeated.tolist()
        assert differ(adapter, again) == 0


def test_a_trained_parameter_takes_16_bytes_beside_its_inputs():
    config = LlamaConfig(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
    recipe = Recipe(epochs=1, learning_rate=2e-3, dropout=0.0)
    needed = [trial_bytes(config, recipe, 8, parameters=n, recomputed=False) for n in (1_000, 3_000)]
    assert needed[1] - needed[0] == 16 * 2_000


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_states_of_a_paged_optimizer_can_be_read():
    weight = torch.nn.Parameter(torch.randn(200_000, device="cuda"))  # smaller ones are not paged
    optimizer = bnb.optim.PagedAdamW8bit([weight])
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    states = optimizer_states(optimizer)
    assert states["state_dtypes"] == ["uint8"]
    assert states["starved"] == 0
