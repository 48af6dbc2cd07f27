"""Loading texts: what valid sources become."""

import io
import json
import logging
import socket
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from huggingface_hub import constants
from loopback_hub import Hub
from sources import csv_of, review, two_classes

from lib import hub
from lib.hub import waiting
from lib.texts import corpora
from lib.texts.cleaning import clean
from lib.texts.corpora import load_classification, pretraining_texts
from lib.texts.generated.mini_corpora import CORPORA, unlabelled
from lib.texts.language_corpora import load_instructions, load_quotes
from lib.texts.tables import CorpusError, read

REAL_TEXTS = Path(__file__).parents[2] / "shared" / "data"
real_texts = pytest.mark.skipif(not REAL_TEXTS.is_dir(), reason=f"no real texts at {REAL_TEXTS}")


@pytest.fixture(autouse=True)
def own_shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Tests neither see earlier downloads nor leave any."""
    monkeypatch.setattr(datasets.config, "DOWNLOADED_DATASETS_PATH", tmp_path / "downloads")


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def texts_in(corpus: DatasetDict) -> list[str]:
    return [text for split in corpus.values() for text in split["text"]]


def order_in(rows: list[tuple[str, Any]]) -> Callable[[str], int]:
    """Return the place of a cleaned text among rows."""
    places = {clean(text): place for place, (text, _) in enumerate(rows)}
    return places.__getitem__


def test_a_file_becomes_three_cleaned_splits(write):
    corpus = load_classification(write("a.csv", csv_of(two_classes(100), "text,label")), seed=0)
    assert list(corpus) == ["train", "validation", "test"]
    assert [len(split) for split in corpus.values()] == [80, 10, 10]
    for split in corpus.values():
        assert split.features == Features({"text": Value("string"), "label": ClassLabel(names=["0", "1"])})
        assert Counter(split["label"]) == {0: len(split) // 2, 1: len(split) // 2}
    assert sorted(texts_in(corpus)) == sorted(clean(text) for text, _ in two_classes(100))
    assert corpus["train"]["text"][0].startswith("L' avis ")
    labels = {clean(text): label for text, label in two_classes(100)}
    for split in corpus.values():
        assert split["text"] == [text for text in labels if text in split["text"]]  # in the file's order
    assert all(labels[row["text"]] == row["label"] for split in corpus.values() for row in split)


def test_texts_of_another_data_set_are_left_out_before_the_split(write, caplog):
    rows = two_classes(100)
    path = write("a.csv", csv_of(rows, "text,label"))
    shared = [(f" {text.upper()}  ", label) for text, label in rows[:20]]
    other = write("b.csv", csv_of([*shared, ("Un autre avis .", 1)], "text,label"))
    with caplog.at_level(logging.WARNING):
        corpus = load_classification(path, seed=0, apart_from=str(other))
    assert f"{path}: 20 texts left out that are in {other}, too" in caplog.messages
    assert sorted(texts_in(corpus)) == sorted(clean(text) for text, _ in rows[20:])
    caplog.clear()
    whole = load_classification(other, seed=0, apart_from="mini-allocine")
    assert len(texts_in(whole)) == 21
    assert not caplog.messages


def test_a_data_set_under_another_path_has_no_texts_of_its_own(write, tmp_path):
    path = write("d/plain.csv", csv_of(two_classes(40), "text,label"))
    other = f"{tmp_path}/d/../d/plain.csv"
    with pytest.raises(CorpusError) as raised:
        load_classification(other, seed=0, apart_from=str(path))
    assert str(raised.value) == f"{other!r}: all 40 texts are in {str(path)!r}, too; expected other texts"


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_sample_without_a_class_is_refused(write, split):
    rows = [(review(number), "rare" if number % 20 == 0 else "usual") for number in range(400)]
    path = write("a.csv", csv_of(rows, "text,label"))
    with pytest.raises(CorpusError) as raised:
        load_classification(path, seed=0, **{f"{split}_texts": 5})
    assert str(raised.value) == (
        f"{str(path)!r}, {split} split: 5 texts requested, none of them of the class 'rare'; "
        "expected enough for texts of both classes"
    )
    sampled = load_classification(path, seed=0, **{f"{split}_texts": 20}, validation_texts=2)
    assert Counter(sampled[split]["label"]) == {0: 1, 1: 19}
    assert sampled["validation"]["label"] == [1, 1]  # too few for both, but only an accuracy is taken of them


def test_the_seed_determines_the_splits(write):
    path = write("a.csv", csv_of(two_classes(100), "text,label"))
    first, again, other = (load_classification(path, seed=seed) for seed in (1, 1, 2))
    assert texts_in(first) == texts_in(again)
    assert set(first["test"]["text"]) != set(other["test"]["text"])


def test_texts_are_sampled_by_class_and_kept_in_file_order(write):
    rows = [(review(number), int(number % 4 == 0)) for number in range(400)]
    path = write("a.csv", csv_of(rows, "text,label"))
    whole = load_classification(path, seed=0)
    sampled = load_classification(path, seed=0, train_texts=80, validation_texts=39, test_texts=4)
    other = load_classification(path, seed=1, train_texts=80)
    for split, size in {"train": 80, "validation": 39, "test": 4}.items():
        assert len(sampled[split]) == size
        assert abs(sum(sampled[split]["label"]) - size / 4) <= 1
        assert sampled[split]["text"] == [t for t in whole[split]["text"] if t in sampled[split]["text"]]
    assert set(sampled["train"]["text"]) != set(other["train"]["text"])


def test_held_out_texts_that_are_sorted_by_class_are_shuffled(write, caplog):
    """The first texts are explained and drawn: they must not all be of one class."""
    rows = sorted(two_classes(200), key=lambda row: row[1])
    path = write("a.csv", csv_of(rows, "text,label"))
    with caplog.at_level(logging.WARNING):
        corpus, again = (load_classification(path, seed=3, test_texts=16) for _ in range(2))
    assert f"{path}: the test split is sorted by class, so its texts are shuffled" in caplog.messages
    assert not any("train split is sorted" in message for message in caplog.messages)
    for split in ("validation", "test"):
        assert set(corpus[split]["label"][:8]) == {0, 1}
        assert corpus[split]["text"] == again[split]["text"]
    assert corpus["train"]["label"] == 80 * [0] + 80 * [1]
    other = load_classification(path, seed=4)
    assert other["test"]["label"] != corpus["test"]["label"]


def test_only_a_given_split_that_is_sorted_by_class_is_shuffled(write, caplog):
    rows = two_classes(120)
    held_out = sorted(rows[:40], key=lambda row: row[1], reverse=True)
    table = [(*row, "train") for row in rows[40:]] + [(*row, "test") for row in held_out]
    with caplog.at_level(logging.WARNING):
        corpus = load_classification(write("a.csv", csv_of(table, "text,label,split")), seed=0)
    assert len(caplog.messages) == 1
    assert set(corpus["test"]["label"][:10]) == {0, 1}
    assert sorted(corpus["test"]["text"]) == sorted(clean(text) for text, _ in held_out)
    for split in ("train", "validation"):
        assert corpus[split]["text"] == sorted(corpus[split]["text"], key=order_in(rows))


def test_a_cut_split_that_happens_to_be_sorted_keeps_the_order_of_a_mixed_file(write, caplog):
    path = write("a.csv", csv_of(two_classes(20), "text,label"))
    with caplog.at_level(logging.WARNING):
        for seed in range(5):
            corpus = load_classification(path, seed=seed)  # two test texts
            assert corpus["test"]["text"] == sorted(corpus["test"]["text"], key=order_in(two_classes(20)))
    assert not caplog.messages


@pytest.mark.parametrize(
    ("name", "header", "separator", "labels", "names"),
    [
        ("a.csv", "text,label", ",", ("neg", "pos"), ["neg", "pos"]),
        ("a.csv", "Review;Sentiment", ";", ("2", "10"), ["2", "10"]),
        ("a.tsv", "texte\tclasse", "\t", ("False", "True"), ["False", "True"]),
        ("a.CSV", "\ufefftext, label ", ",", ("-1", "1"), ["-1", "1"]),
        ("rtbf.csv", "text_clean|label", "|", ("actu", "chron"), ["information", "opinion"]),
        ("rtbf.csv", "text_clean|label", "|", ("Sport", "Chron"), ["information", "opinion"]),
        ("rtbf.csv", "label|text_clean", "|", ("actu", "opinion"), ["information", "opinion"]),
        ("press.csv", "text|label", "|", ("news", "opinion"), ["news", "opinion"]),
        ("press.csv", "text|label", "|", ("Chron", "Sport"), ["Chron", "Sport"]),
        ("clean.csv", "text_clean,label", ",", ("neg", "pos"), ["neg", "pos"]),
    ],
)
def test_separators_columns_and_labels(write, name, header, separator, labels, names):
    rows = two_classes(40, labels)
    if header.startswith("label"):
        rows = [(label, text) for text, label in rows]
    corpus = load_classification(write(name, csv_of(rows, header, separator)), seed=0)
    assert corpus["train"].features["label"].names == names
    assert Counter(corpus["train"]["label"]) == {0: 16, 1: 16}
    second = {clean(text) for text, label in two_classes(40, labels) if label == labels[1]}
    assert {row["text"] for split in corpus.values() for row in split if row["label"] == 1} == second


def test_a_tsv_is_read_with_tabs_whatever_its_header_holds(write):
    content = "text\tlabel\tseen, noted, or, not\nun film, ou pas\tpos\tno\n"
    table = read(str(write("a.tsv", content)))
    assert table.to_dict("records") == [
        {"text": "un film, ou pas", "label": "pos", "seen, noted, or, not": "no"}
    ]


def test_jsonl_and_parquet_give_what_csv_gives(write, tmp_path):
    rows = two_classes(60)
    expected = load_classification(write("a.csv", csv_of(rows, "text,label")), seed=0)
    lines = "".join(json.dumps({"label": label, "text": text}) + "\n\n" for text, label in rows)
    texts, labels = zip(*rows, strict=True)
    pq.write_table(pa.table({"text": texts, "label": pa.array(labels, pa.float64())}), tmp_path / "a.parquet")
    for path in (write("a.jsonl", lines), tmp_path / "a.parquet"):
        corpus = load_classification(path, seed=0)
        assert {split: corpus[split].to_dict() for split in corpus} == {
            s: expected[s].to_dict() for s in expected
        }


def test_given_splits_are_kept_and_a_missing_one_is_cut_from_train(write):
    rows = [
        (*row, "dev" if n < 10 else "Test" if n < 30 else "train") for n, row in enumerate(two_classes(120))
    ]
    whole = load_classification(write("a.csv", csv_of(rows, "text,label,Split")), seed=0)
    assert [len(split) for split in whole.values()] == [90, 10, 20]
    assert whole["validation"]["text"] == [clean(text) for text, *_ in rows[:10]]  # the file's order
    cut = load_classification(write("b.csv", csv_of(rows[10:], "text,label,split")), seed=0)
    assert [len(split) for split in cut.values()] == [80, 10, 20]
    assert cut["test"]["text"] == whole["test"]["text"]
    assert sorted(texts_in(cut)) == sorted(texts_in(whole)[:90] + texts_in(whole)[100:])


def test_a_folder_of_splits(write, tmp_path):
    rows = two_classes(40)
    write("data/train-00000-of-00002.csv", csv_of(rows[:10], "text,label"))
    write("data/train-00001-of-00002.csv", csv_of(rows[10:20], "text,label"))
    write("data/sub/validation.csv", csv_of(rows[20:30], "text,label"))
    write("data/test.csv", csv_of(rows[30:], "text,label"))
    write("data/README.md", "read me")
    corpus = load_classification(tmp_path / "data", seed=0)
    assert [split["text"] for split in corpus.values()] == [
        [clean(text) for text, _ in part] for part in (rows[:20], rows[20:30], rows[30:])
    ]


def test_repeated_texts_are_left_out_before_a_cut_and_reported(write, caplog):
    rows = two_classes(40) + two_classes(6)
    with caplog.at_level(logging.WARNING):
        corpus = load_classification(write("a.csv", csv_of(rows, "text,label")), seed=0)
    assert sorted(texts_in(corpus)) == sorted(clean(text) for text, _ in rows[:40])
    line = "6 repeated texts left out of the train split, 0 of them with another label than the first"
    assert line in caplog.messages


def test_repeated_texts_with_another_label_are_counted(write, caplog):
    rows = [*two_classes(40), *two_classes(6), *((text, 1 - label) for text, label in two_classes(3))]
    with caplog.at_level(logging.WARNING):
        corpus = load_classification(write("a.csv", csv_of(rows, "text,label")), seed=0)
    line = "9 repeated texts left out of the train split, 3 of them with another label than the first"
    assert line in caplog.messages
    labels = {row["text"]: row["label"] for split in corpus.values() for row in split}
    assert labels == {clean(text): label for text, label in two_classes(40)}


def test_infopinion_is_split_as_by_its_authors(write, monkeypatch):
    monkeypatch.setattr(corpora, "INFOPINION_PER_CLASS", 50)
    rows = [
        (review(n), "chron" if n % 3 else "actu") for n in range(240)
    ]  # 80 of one class, 160 of the other
    path = write("a.csv", csv_of(rows, "text_clean|label", "|"))
    expected: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    frame = pd.DataFrame(rows, columns=["text", "label"])
    for label in ("actu", "chron"):
        shuffled = (
            frame[frame["label"] == label][:50].sample(frac=1, random_state=42)["text"].map(clean).tolist()
        )
        for split, part in zip(expected, (shuffled[:40], shuffled[40:45], shuffled[45:]), strict=True):
            expected[split] += part
    for seed in (0, 1):
        corpus = load_classification(path, seed=seed)
        assert {split: sorted(corpus[split]["text"]) for split in corpus} == {
            split: sorted(texts) for split, texts in expected.items()
        }


def test_a_label_alone_does_not_switch_on_the_rules_of_infopinion(write, monkeypatch):
    monkeypatch.setattr(corpora, "INFOPINION_PER_CLASS", 20)
    rows = two_classes(100, ("information", "opinion"))
    named = load_classification(write("a.csv", csv_of(rows, "text,label")), seed=0)
    assert len(texts_in(named)) == 100
    given = [(*row, "train" if number < 60 else "test") for number, row in enumerate(rows)]
    for header in ("text,label,split", "text_clean,label,split"):
        corpus = load_classification(write("b.csv", csv_of(given, header)), seed=0)
        assert corpus["test"]["text"] == [clean(text) for text, *_ in given[60:]]
    third = [*rows, ("Un dessin .", "cartoon")]
    with pytest.raises(CorpusError, match="label 'cartoon' is the third of 3 classes"):
        load_classification(write("c.csv", csv_of(third, "text,label")), seed=0)


def test_pretraining_texts_are_further_or_training_texts_shuffled(write):
    corpus = load_classification(write("a.csv", csv_of(two_classes(40), "text,label")), seed=0)
    texts = pretraining_texts([*CORPORA, "a.csv"], {"a.csv": corpus}, seed=3, count=50)
    expected = [text for name in CORPORA for text in unlabelled(name, seed=3, count=50)]
    expected += corpus["train"]["text"]
    assert texts != expected
    assert sorted(texts) == sorted(expected)
    assert texts == pretraining_texts([*CORPORA, "a.csv"], {"a.csv": corpus}, seed=3, count=50)


def test_generated_corpora_are_loaded_in_the_same_way(monkeypatch):
    asked = {}

    def mini_corpus(name: str, **given: Any) -> DatasetDict:
        asked.update(given, name=name)
        return DatasetDict()

    monkeypatch.setattr(corpora.mini_corpora, "mini_corpus", mini_corpus)
    sizes = {"train_texts": 8, "validation_texts": 2, "test_texts": 4}
    load_classification("mini-allocine", seed=3, **sizes)
    assert asked == {"name": "mini-allocine", "seed": 3, "train": 8, "validation": 2, "test": 4}


def on_the_hub(small_hub: Hub, splits: Mapping[str, Dataset], name: str = "tblard/allocine") -> str:
    files = {}
    for split, rows in splits.items():
        rows.to_parquet(content := io.BytesIO())
        files[f"data/{split}-00000-of-00001.parquet"] = content.getvalue()
    return small_hub.add("dataset", name, files)


def hub_split(numbers: range) -> Dataset:
    features = Features({"review": Value("string"), "label": ClassLabel(names=["neg", "pos"])})
    rows = {"review": [review(n) for n in numbers], "label": [n % 2 for n in numbers]}
    return Dataset.from_dict(rows, features=features)


def test_allocine_as_the_hub_has_it(small_hub, caplog):
    published = {
        "train": hub_split(range(60)),
        "validation": hub_split(range(58, 70)),
        "test": hub_split(range(69, 80)),
    }
    on_the_hub(small_hub, published)
    with caplog.at_level(logging.WARNING):
        corpus = load_classification("allocine", seed=0)
    assert corpus["train"].features["label"].names == ["negative", "positive"]
    assert corpus["test"]["text"] == [clean(review(n)) for n in range(69, 80)]  # as published
    assert corpus["validation"]["text"] == [clean(review(n)) for n in range(58, 69)]
    assert corpus["train"]["text"] == [clean(review(n)) for n in range(58)]
    assert "2 texts of the train split left out" in caplog.text


@pytest.mark.parametrize("dataset", ["allocine", "tblard/allocine"])
def test_allocine_is_cleaned_as_french_whatever_the_language_of_other_texts(small_hub, dataset):
    on_the_hub(small_hub, {"train": hub_split(range(60))})
    corpus = load_classification(dataset, seed=0, language="English")
    assert all(text.startswith("L' avis ") for text in corpus["train"]["text"])


def test_files_on_the_shelf_replace_the_hub(small_hub):
    folder = hub.shelf("tblard/allocine")
    folder.mkdir(parents=True)
    for split, numbers in {"train": range(40), "validation": range(40, 50), "test": range(50, 60)}.items():
        hub_split(numbers).to_parquet(folder / f"{split}-00000-of-00001.parquet")
    corpus = load_classification("allocine", seed=0)
    assert [len(split) for split in corpus.values()] == [40, 10, 10]
    assert corpus["train"].features["label"].names == ["negative", "positive"]


def test_rows_without_text_in_a_published_data_set_are_left_out(small_hub, caplog):
    rows = {"review": ["", *map(review, range(40))], "label": [0, *(n % 2 for n in range(40))]}
    on_the_hub(small_hub, {"train": Dataset.from_dict(rows)})
    with caplog.at_level(logging.WARNING):
        assert len(texts_in(load_classification("allocine", seed=0))) == 40
    assert "1 rows without a text left out" in caplog.text


def test_class_names_and_their_order_survive_and_an_extra_split_is_left_out(small_hub, caplog):
    features = Features({"text": Value("string"), "label": ClassLabel(names=["unacceptable", "acceptable"])})

    def split(numbers: range, label: int | None = None) -> Dataset:
        labels = [n % 2 if label is None else label for n in numbers]
        return Dataset.from_dict({"text": [review(n) for n in numbers], "label": labels}, features=features)

    splits = {
        "train": split(range(40)),
        "test": split(range(40, 50)),
        "unsupervised": split(range(50, 70), -1),
    }
    on_the_hub(small_hub, splits, "acme/judged")
    with caplog.at_level(logging.WARNING):
        corpus = load_classification("acme/judged", seed=0)
    assert corpus["test"].features["label"].names == ["unacceptable", "acceptable"]
    assert corpus["test"]["label"] == [n % 2 for n in range(40, 50)]
    assert "acme/judged: split 'unsupervised' (20 rows) left out" in caplog.text


def test_a_data_set_without_a_known_split_names_those_that_it_has(small_hub):
    on_the_hub(small_hub, {"everything": hub_split(range(40))}, "acme/odd")
    (files,) = small_hub.repositories["dataset", "acme/odd"].commits.values()
    card = b"---\nconfigs:\n- config_name: all\n  data_files:\n  - {split: everything, path: data/*}\n---\n"
    small_hub.add("dataset", "acme/odd", {**files, "README.md": card})
    with pytest.raises(CorpusError, match="its splits are 'everything'; expected train, validation or test"):
        load_classification("acme/odd", seed=0)


def test_a_data_set_of_the_hub_is_pinned_and_asked_for_once(small_hub):
    first = on_the_hub(small_hub, {"train": hub_split(range(40))})
    on_the_hub(small_hub, {"train": hub_split(range(100, 160))})
    assert len(texts_in(load_classification("tblard/allocine", seed=0))) == 60
    assert len(texts_in(load_classification(f"tblard/allocine@{first}", seed=0))) == 40
    with small_hub.watch() as requests:
        load_classification("allocine", seed=1)
    assert requests == []


def test_a_data_set_that_is_only_a_script_is_refused(small_hub):
    small_hub.add("dataset", "acme/script", {"README.md": b"", "script.py": b"import os"})
    with pytest.raises(CorpusError, match=r"data set 'acme/script': no file of it matches \*\.csv, "):
        load_classification("acme/script", seed=0)


@pytest.mark.parametrize(
    "entry",
    [
        "data_files: {outside}/test.csv",
        "data_files: file:{outside}/test.csv",
        "data_files: [train.csv, ../../../../outside/*.csv]",
        "data_files: [{{split: train, path: [train.csv, '{outside}/test.csv']}}]",
        "data_dir: ../../../../outside",
        "data_files: '{url}/web/test.csv'",
        "data_files: zip://test.csv::{outside}/test.zip",
    ],
)
def test_the_card_of_a_data_set_opens_nothing_outside_of_it(small_hub, tmp_path, entry):
    outside = tmp_path / "outside"
    outside.mkdir()
    data = csv_of(two_classes(40), "text,label").encode()
    (outside / "test.csv").write_bytes(data)
    with zipfile.ZipFile(outside / "test.zip", "w") as archive:
        archive.writestr("test.csv", data)
    small_hub.web["/web/test.csv"] = data
    entry = entry.format(outside=outside, url=small_hub.url)
    card = f"---\nconfigs:\n- config_name: default\n  {entry}\n---\n".encode()
    small_hub.add("dataset", "acme/spy", {"README.md": card, "train.csv": data})
    with pytest.raises(CorpusError, match=r"^data set 'acme/spy': its README.md names '.*'; allowed: files"):
        load_classification("acme/spy", seed=0)
    assert not any(request.path.startswith("/web/") for request in small_hub.requests)


def test_a_gated_data_set_says_so(small_hub):
    small_hub.add("dataset", "acme/gated", {"train.csv": b"text,label\n"}, gated=True)
    with pytest.raises(
        CorpusError, match=r"^data set 'acme/gated': gated: ask for access on .*/datasets/acme/g"
    ):
        load_classification("acme/gated", seed=0)


INFOPINION = csv_of(two_classes(40, ("actu", "chron")), "text_clean|label", "|").encode()


def test_infopinion_is_fetched_once(small_hub, monkeypatch):
    small_hub.web["/web/InfOpinion_dataset.csv"] = INFOPINION
    url = f"{small_hub.url}/web/InfOpinion_dataset.csv"
    monkeypatch.setitem(corpora.PUBLISHED, "infopinion", url)
    first, again = load_classification("infopinion", seed=0), load_classification(url, seed=0)
    assert [request.method for request in small_hub.requests] == ["HEAD", "GET"]
    assert texts_in(first) == texts_in(again)
    assert first["train"].features["label"].names == ["information", "opinion"]


def test_a_missing_file_leaves_nothing_behind(small_hub, tmp_path):
    with pytest.raises(CorpusError, match=r"/gone\.csv'.*404.*give its local path") as raised:
        load_classification(f"{small_hub.url}/web/gone.csv", seed=0)
    assert "\n" not in str(raised.value)
    assert list((tmp_path / "downloads").iterdir()) == []


@pytest.fixture
def no_network(small_hub, monkeypatch):
    """A network that never answers: looking up a name takes forever."""
    stop = threading.Event()

    def look_up(*_: Any, **__: Any) -> None:
        stop.wait(30)
        raise socket.gaierror("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(waiting, "SECONDS", 0.3)
    yield
    stop.set()


@pytest.mark.parametrize(
    ("load", "dataset", "fetch", "put"),
    [
        (
            load_classification,
            "allocine",
            "/datasets/tblard/allocine/tree/main",
            "tblard--allocine",
        ),
        (load_classification, "infopinion", "Fine-tuning_analysis/main/InfOpinion_dataset.csv", "downloads"),
        (load_quotes, "Abirate/english_quotes", "datasets/Abirate/english_quotes", "Abirate--english_quotes"),
        (
            load_instructions,
            "garage-bAInd/Open-Platypus",
            "datasets/garage-bAInd/Open-Platypus",
            "local path",
        ),
    ],
)
def test_no_network_is_reported_quickly_with_what_to_fetch(no_network, load, dataset, fetch, put):
    start = time.perf_counter()
    with pytest.raises(CorpusError) as raised:
        load(dataset, seed=0)
    assert time.perf_counter() - start < 3
    message = str(raised.value)
    assert "does not answer" in message
    assert fetch in message
    assert put in message
    assert "\n" not in message


def test_offline_makes_no_request(small_hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CorpusError, match=r"HF_HUB_OFFLINE is set, and it has not been .*put them as train"):
        load_classification("allocine", seed=0)
    assert small_hub.requests == []


def test_quotes_and_instructions_are_split_80_20(write):
    quotes = "".join(json.dumps({"quote": f"Be {review(n)}", "author": "A"}) + "\n" for n in range(50))
    path = write("quotes.jsonl", quotes + quotes.splitlines()[3])
    corpus, again = load_quotes(path, seed=7), load_quotes(path, seed=7)
    assert {split: len(corpus[split]) for split in corpus} == {"train": 40, "test": 10}
    assert corpus["train"].column_names == ["quote"]
    both = [*corpus["train"]["quote"], *corpus["test"]["quote"]]
    assert sorted(both) == sorted(f"Be {review(n)}" for n in range(50))  # not cleaned; no quote occurs twice
    assert both == [*again["train"]["quote"], *again["test"]["quote"]]
    assert set(load_quotes(path, seed=8)["test"]["quote"]) != set(corpus["test"]["quote"])

    rows = [(review(n), "", f"answer {n}") for n in range(50)]
    instructions = load_instructions(
        write("i.csv", csv_of(rows, "Instruction,input,output")), seed=0, limit=20
    )
    assert {split: len(instructions[split]) for split in instructions} == {"train": 16, "test": 4}
    answers = {instruction: output for instruction, _, output in rows}
    assert all(answers[row["instruction"]] == row["output"] for row in instructions["test"])


def test_generated_quotes_and_instructions_are_loaded_in_the_same_way():
    assert load_quotes("mini-quotes", seed=0, limit=20)["train"].column_names == ["quote"]
    corpus = load_instructions("mini-platypus", seed=0, limit=20)
    assert corpus["train"].column_names == ["instruction", "output"]
    assert [len(split) for split in corpus.values()] == [16, 4]


@real_texts
def test_the_real_reviews():
    corpus = load_classification(REAL_TEXTS / "allocine_sample.csv", seed=0)
    assert {split: len(corpus[split]) for split in corpus} == {"train": 1775, "validation": 222, "test": 1369}
    assert all(text.split() and clean(text) == text for text in corpus["validation"]["text"])
    assert len(set(texts_in(corpus))) == 3366


@real_texts
def test_the_real_quotes_and_instructions():
    quotes = load_quotes(REAL_TEXTS / "english_quotes_lowercased.jsonl", seed=0)
    assert [len(split) for split in quotes.values()] == [1974, 494]  # one of the 2,469 occurs twice
    instructions = load_instructions(REAL_TEXTS / "platypus_kin.jsonl", seed=0)
    assert [len(split) for split in instructions.values()] == [4923, 1231]
