"""All that a notebook names is fetched at once; after that nothing asks the Hub, not even training."""

import ast
import io
import json
from pathlib import Path

import papermill
import pytest
import yaml
from datasets import ClassLabel, Dataset, Features, Value
from loopback_hub import Hub
from safetensors.torch import load_file, save_file
from small import save_model
from sources import csv_of, review, two_classes

from lib import checkpoints, hub
from lib.checkpoints import model_folder
from lib.installed import MODELS
from lib.models import ModelError, load_classifier, model_fingerprint
from lib.paper3.corpora import load_labelled, load_summaries
from lib.qlora import Material, Recipe, Trial
from lib.qlora.recipes import Sources, Task
from lib.settings import (
    PROJECT_ROOT,
    FinetunedVsFrozen,
    FinetuningSurface,
    NotebookSettings,
    QloraRepeatability,
)
from lib.sources import GENERATED, fetch_sources
from lib.texts import corpora, load_classification, load_instructions, load_quotes
from lib.texts.rationales import load_rationales

NOTEBOOKS = {
    "1_finetuned_vs_frozen": FinetunedVsFrozen,
    "2_finetuning_surface_vs_snr": FinetuningSurface,
    "3_qlora_repeatability": QloraRepeatability,
}
PROFILES = sorted(folder.name for folder in (PROJECT_ROOT / "params").iterdir() if folder.is_dir())
PICKLED = "togethercomputer/GPT-NeoXT-Chat-Base-20B"  # holds no safetensors on the Hub

pytestmark = pytest.mark.usefixtures("one_thread")


def settings_of(notebook: str, profile: str) -> NotebookSettings:
    """The settings of a notebook at a profile, on a CPU."""
    known = papermill.inspect_notebook(str(PROJECT_ROOT / "notebooks" / f"{notebook}.ipynb"))
    values = {name: ast.literal_eval(details["default"]) for name, details in known.items()}
    profile_file = PROJECT_ROOT / "params" / profile / f"{notebook}.yaml"
    values |= yaml.safe_load(profile_file.read_text(encoding="utf-8")) or {}
    return NOTEBOOKS[notebook].model_validate(values | {"device": "cpu"})


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory) -> dict[str, dict[str, bytes]]:
    """A tiny model of each architecture that the profiles name."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("bert", "camembert", "gpt_neox", "llama")}
    for name, folder in folders.items():
        save_model(name, folder)
    return {name: contents(folder) for name, folder in folders.items()}


def parquet(rows: Dataset) -> bytes:
    rows.to_parquet(content := io.BytesIO())
    return content.getvalue()


@pytest.fixture
def full_hub(small_hub: Hub, stand_ins, monkeypatch) -> Hub:
    """What the profiles name, with the files that the real repositories have; nothing came from pip."""
    monkeypatch.setattr(checkpoints, "installed_folder", lambda _: None)
    small_hub.add("model", "almanach/camembert-base", stand_ins["camembert"])
    for name, family in (("minilm", "bert"), ("smollm2", "llama")):
        small_hub.add("model", MODELS[name].hub_id, stand_ins[family])
    for name in ("EleutherAI/pythia-410m", "EleutherAI/pythia-1b", "EleutherAI/gpt-neox-20b"):
        small_hub.add("model", name, stand_ins["gpt_neox"])
    pickled = {
        file: content for file, content in stand_ins["gpt_neox"].items() if file != "model.safetensors"
    }
    small_hub.add("model", PICKLED, pickled | {"pytorch_model.bin": b"pickle"})
    small_hub.add_pull_request(PICKLED, stand_ins["gpt_neox"])
    for name in ("TinyLlama/TinyLlama-1.1B-intermediate-step-1431k-3T", "TinyLlama/TinyLlama-1.1B-Chat-v1.0"):
        small_hub.add("model", name, stand_ins["llama"])
    for name in ("meta-llama/Llama-2-7b-hf", "meta-llama/Llama-2-7b-chat-hf"):
        small_hub.add("model", name, stand_ins["llama"], gated=True)
    monkeypatch.setenv("HF_TOKEN", "hf_member")

    features = Features({"review": Value("string"), "label": ClassLabel(names=["neg", "pos"])})
    splits = {"train": range(60), "validation": range(60, 80), "test": range(80, 100)}
    allocine = {}
    for split, numbers in splits.items():
        columns = {"review": [review(n) for n in numbers], "label": [n % 2 for n in numbers]}
        allocine[f"{split}-00000-of-00001.parquet"] = parquet(Dataset.from_dict(columns, features=features))
    small_hub.add("dataset", "tblard/allocine", allocine)
    rotten = {}  # which shares its last texts with SUBJ
    for split, numbers in splits.items():
        columns = {"text": [f"it 's {review(n)}" for n in numbers], "label": [n % 2 for n in numbers]}
        rotten[f"{split}.parquet"] = parquet(Dataset.from_dict(columns))
    small_hub.add("dataset", "cornell-movie-review-data/rotten_tomatoes", rotten)
    subj = {}
    for split, numbers in {"train": range(90, 190), "test": range(190, 220)}.items():
        lines = (
            {"text": f"it 's {review(n)}", "label": n % 2, "label_text": ("objective", "subjective")[n % 2]}
            for n in numbers
        )
        subj[f"{split}.jsonl"] = "".join(json.dumps(line) + "\n" for line in lines).encode()
    small_hub.add("dataset", "SetFit/subj", subj)
    marked = {}
    for split, numbers in splits.items():
        columns = {"review": [f"{review(n)} . a fine film !" for n in numbers]}
        columns |= {"label": [n % 2 for n in numbers], "evidences": [["a fine film"] for _ in numbers]}
        marked[f"data/{split}-00000-of-00001.parquet"] = parquet(Dataset.from_dict(columns))
    small_hub.add("dataset", "eraser-benchmark/movie_rationales", marked)
    quotes = "".join(json.dumps({"quote": f"“Be {review(n)}”", "author": "A"}) + "\n" for n in range(20))
    small_hub.add("dataset", "Abirate/english_quotes", {"quotes.jsonl": quotes.encode(), "README.md": b""})
    rows = {"instruction": [review(n) for n in range(20)], "output": [f"So {n}." for n in range(20)]}
    platypus = {"data/train-00000-of-00001.parquet": parquet(Dataset.from_dict(rows))}
    small_hub.add("dataset", "garage-bAInd/Open-Platypus", platypus)
    dialogues = [(review(n), f"Gist {n}.") for n in range(20)]
    small_hub.add(
        "dataset", "knkarthick/dialogsum", {"train.csv": csv_of(dialogues, "dialogue,summary").encode()}
    )
    infopinion = csv_of(two_classes(40, ("actu", "chron")), "text_clean|label", "|")
    small_hub.web["/web/InfOpinion.csv"] = infopinion.encode()
    monkeypatch.setitem(corpora.PUBLISHED, "infopinion", f"{small_hub.url}/web/InfOpinion.csv")
    return small_hub


@pytest.mark.parametrize("notebook", NOTEBOOKS)
@pytest.mark.parametrize("profile", PROFILES)
def test_all_that_a_profile_names_is_fetched_once(full_hub: Hub, stand_ins, notebook, profile):
    settings = settings_of(notebook, profile)
    if PICKLED in settings.models.values():
        with pytest.raises(
            ModelError, match=rf"'{PICKLED}': no weights in safetensors format, only pickled ones"
        ):
            fetch_sources(settings)
        assert not any(request.path.startswith("/large/") for request in full_hub.requests)
        full_hub.add("model", PICKLED, stand_ins["gpt_neox"])  # its owners merge the pull request
        hub.find.cache_clear()
    table = fetch_sources(settings)
    assert not any("refs/pr" in request.path for request in full_hub.requests)
    assert list(table["source"]) == [*settings.models.values(), *settings.datasets.values()]
    for source, revision in zip(table["source"], table["revision"], strict=True):
        generated = source.startswith(("tiny-", "mini-"))
        assert (revision == GENERATED) is generated
        if source in MODELS or ("/" in source and not (PROJECT_ROOT / source).exists()):
            kind = "model" if source in settings.models.values() else "dataset"
            name = MODELS[source].hub_id if source in MODELS else source
            assert revision in full_hub.repositories[kind, name].commits
    if profile in ("demo", "smoke"):
        assert full_hub.requests == []
    with full_hub.watch() as requests:
        fetch_sources(settings)
        for model in settings.models.values():
            if "/" in model or model in MODELS:
                assert model_fingerprint(model_folder(model))
        if isinstance(settings, QloraRepeatability) and profile in ("real", "gpu", "paper"):
            assert len(load_quotes(settings.quotes, seed=0)["train"]) == 16
            assert len(load_instructions(settings.instructions, seed=0)["train"]) == 16
        if isinstance(settings, QloraRepeatability) and profile in ("gpu", "paper"):
            assert load_labelled(settings.labelled, seed=0, count=30)["train"].features["label"].names
            assert len(load_summaries(settings.summarised, seed=0, count=20)["train"])
        elif not isinstance(settings, QloraRepeatability) and profile in ("real", "gpu", "paper"):
            for dataset in settings.datasets.values():
                assert len(load_classification(dataset, seed=0)["train"])
            if settings.rationales:
                marked = load_rationales(settings.rationales, seed=0, train_texts=20, explained_texts=10)
                assert any(map(any, marked["test"]["marks"]))
            assert load_classifier(model_folder(settings.model), seed=0)
    assert requests == []


@pytest.mark.parametrize(
    ("notebook", "parameter", "family"),
    [
        ("1_finetuned_vs_frozen", "model", "camembert"),
        ("2_finetuning_surface_vs_snr", "model", "bert"),
        ("3_qlora_repeatability", "llama_chat", "llama"),
    ],
)
def test_a_model_without_all_of_its_weights_is_refused_at_once(tmp_path, notebook, parameter, family):
    save_model(family, tmp_path)
    settings = settings_of(notebook, "demo").model_copy(update={parameter: str(tmp_path)})
    fetch_sources(settings)
    weights = load_file(tmp_path / "model.safetensors")
    kept = {name: value for name, value in weights.items() if ".0." not in name}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=f"^model '{tmp_path}': .* of its weights are missing, such as "):
        fetch_sources(settings)


@pytest.mark.parametrize("model", ["tiny-camembert", "folder"])
def test_a_rank_above_the_encoders_dimension_is_refused_at_once(tmp_path, model):
    save_model("camembert", tmp_path)
    chosen = str(tmp_path) if model == "folder" else model
    dimension = 16 if model == "folder" else 256
    settings = settings_of("2_finetuning_surface_vs_snr", "demo").model_copy(update={"model": chosen})
    allowed = settings.model_copy(update={"curve": f"layers lora:{dimension} lora:1"})
    assert fetch_sources(allowed).loc["model", "source"] == chosen
    line = f"curve holds lora:5000; allowed for model '{chosen}': ranks up to its dimension, {dimension}"
    with pytest.raises(ModelError, match=f"^{line}$"):
        fetch_sources(settings.model_copy(update={"curve": "lora:5000 biases lora:4"}))


def test_training_asks_the_hub_nothing(full_hub: Hub, tmp_path):
    folder = model_folder("TinyLlama/TinyLlama-1.1B-Chat-v1.0")
    texts = [review(number) for number in range(3)]
    task = Task(texts, texts, prompts=texts[:1], new_tokens=2, answer_tokens=2)
    material = Material({"m": str(folder)}, {"t": task}, tmp_path, "cpu")
    recipe = Recipe(learning_rate=0.01, epochs=1)
    with full_hub.watch() as requests:
        result = Trial(0, model="m", task="t", recipe=recipe, sources=Sources.same(0)).carry_out(
            material=material
        )
    assert result["losses"].shape == (3,)
    assert requests == []


def test_a_file_is_identified_by_its_contents(small_hub: Hub, tmp_path):
    settings = settings_of("2_finetuning_surface_vs_snr", "demo")
    seen = set()
    for content in ("a", "b"):
        (tmp_path / "texts.csv").write_text(content)
        table = fetch_sources(settings.model_copy(update={"dataset": str(tmp_path / "texts.csv")}))
        seen.add(table.loc["dataset", "revision"])
    assert len(seen) == 2
    assert small_hub.requests == []
