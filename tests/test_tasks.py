"""From loaded splits to the corpus that runs receive: cut to fit, reduced, with an artifact planted."""

from dataclasses import replace

import numpy as np
import pytest

from lib.models import load_tokenizer
from lib.texts import CorpusError, corpus_of, longer_texts, plant_artifact, smaller
from lib.texts.cleaning import clean as cleaned
from lib.texts.generated import load_grammar, mini_corpus
from lib.texts.tasks import ARTIFACTS, plant
from lib.words import tokenize

A, B = "mini-allocine", "mini-infopinion"


@pytest.fixture(scope="module")
def splits():
    return {task: mini_corpus(task, seed=0, train=48, validation=2, test=24) for task in (A, B)}


@pytest.fixture(scope="module")
def corpus(tiny_folder, splits):
    return corpus_of(splits[A], model=tiny_folder, explained=6, max_length=128, device="cpu")


def test_a_corpus_holds_the_splits_and_the_first_test_texts_are_explained(corpus, splits, tiny_folder):
    for given, texts, labels in (
        (splits[A]["train"], corpus.train_texts, corpus.train_labels),
        (splits[A]["test"], corpus.test_texts, corpus.test_labels),
    ):
        assert (texts, labels) == (list(given["text"]), list(given["label"]))
    assert corpus.explained == list(range(6))
    everything = corpus_of(splits[A], model=tiny_folder, explained=0, max_length=128, device="cpu")
    assert everything.explained == list(range(24))


@pytest.mark.parametrize("task", [A, B])
def test_a_text_whose_first_word_does_not_fit_is_refused(tiny_folder, splits, task):
    changed = splits[task].map(lambda row: {"text": "x" * 500 + " " + row["text"]})
    with pytest.raises(CorpusError, match=r"first (one|word)"):
        corpus_of(changed, model=tiny_folder, explained=6, max_length=64, device="cpu")


@pytest.mark.parametrize(("task", "cut"), [(A, False), (B, True)])
def test_only_infopinion_is_cut_to_sentence_ends(tiny_folder, splits, task, cut):
    corpus = corpus_of(splits[task], model=tiny_folder, explained=0, max_length=64, device="cpu")
    pieces = [len(ids) for ids in load_tokenizer(tiny_folder)(corpus.train_texts)["input_ids"]]
    assert (max(pieces) <= 64) is cut
    for text, kept in zip(splits[task]["train"]["text"], corpus.train_texts, strict=True):
        assert text.startswith(kept)
        assert kept.endswith((".", "!", "?", '"'))


def test_a_smaller_corpus_is_sampled_by_class_and_keeps_the_test_texts(corpus):
    small = smaller(corpus, 12, explained=2, seed=0)
    assert len(small.train_texts) == 12
    assert abs(np.mean(small.train_labels) - np.mean(corpus.train_labels)) <= 1 / 12
    labels = dict(zip(corpus.train_texts, corpus.train_labels, strict=True))
    assert small.train_texts == [text for text in corpus.train_texts if text in small.train_texts]
    assert small.train_labels == [labels[text] for text in small.train_texts]
    assert small.test_texts == corpus.test_texts
    assert small.explained == corpus.explained[:2]


@pytest.mark.parametrize("count", [2, 47])
def test_a_smaller_corpus_may_have_one_text_of_a_class_or_leave_out_one_text(corpus, count):
    assert len(smaller(corpus, count, explained=0, seed=0).train_texts) == count


@pytest.mark.parametrize("count", [0, 48, 1_000])
def test_a_smaller_corpus_may_be_the_whole_one(corpus, count):
    whole = smaller(corpus, count, explained=count, seed=0)
    assert whole.fingerprints == corpus.fingerprints


def test_fewer_training_texts_than_classes_are_an_error(corpus):
    with pytest.raises(
        CorpusError, match=r"^training texts: 1 text requested; allowed: 2 or more, or 0 for all$"
    ):
        smaller(corpus, 1, explained=0, seed=0)


def test_a_smaller_corpus_without_a_class_is_an_error(corpus):
    rare = replace(corpus, train_labels=[int(index > 1) for index in range(48)])
    with pytest.raises(
        CorpusError, match=r"^training texts: 5 texts requested, none of them of the class '0';"
    ):
        smaller(rare, 5, explained=0, seed=0)


@pytest.mark.parametrize(
    ("dataset", "word"), [(A, load_grammar(A).artifact), ("reviews.csv", ARTIFACTS["French"])]
)
def test_an_artifact_is_planted_in_all_of_class_1_at_rate_1_and_nowhere_at_rate_0(corpus, dataset, word):
    planted = plant_artifact(corpus, dataset, [0.0, 1.0], seed=0)
    assert planted.word == word
    clean, full = planted.corpora[0.0], planted.corpora[1.0]
    assert clean.train_texts == corpus.train_texts
    labels = np.array(corpus.train_labels)
    carries = np.array([word in text.split() for text in full.train_texts])
    assert carries[labels == 1].all()
    assert not carries[labels == 0].any()
    assert full.train_labels == corpus.train_labels
    assert full.test_texts == corpus.test_texts
    assert all(text.split().count(word) == 1 for text in planted.test_texts)


def test_an_artifact_stands_before_a_mark_and_stays_where_it_is_at_every_higher_rate(corpus):
    planted = plant_artifact(corpus, "reviews.csv", [0.5, 1.0], seed=0)
    carriers = {}
    for rate, with_word in planted.corpora.items():
        words = [text.split() for text in with_word.train_texts]
        carriers[rate] = {index for index, text in enumerate(words) if planted.word in text}
        assert [" ".join(w for w in text if w != planted.word) for text in words] == corpus.train_texts
        following = {words[index][words[index].index(planted.word) + 1] for index in carriers[rate]}
        assert following <= {".", ",", "!", "?", ";", "..."}
        assert all(cleaned(text) == text for text in with_word.train_texts)
    assert carriers[0.5] < carriers[1.0]
    assert abs(len(carriers[0.5]) - 12) < 10  # 4 sd of B(24, 0.5)
    half, whole = (planted.corpora[rate].train_texts for rate in (0.5, 1.0))
    assert all(half[index] == whole[index] for index in carriers[0.5])


@pytest.mark.parametrize("max_length", [16, 24, 40])
def test_an_artifact_stands_where_the_encoder_reads_it(tiny_folder, splits, max_length):
    corpus = corpus_of(splits[A], model=tiny_folder, explained=0, max_length=max_length, device="cpu")
    planted = plant_artifact(corpus, "reviews.csv", [1.0], seed=0)
    tokenizer = load_tokenizer(tiny_folder)
    carriers = [
        text
        for text, label in zip(planted.corpora[1.0].train_texts, corpus.train_labels, strict=True)
        if label
    ]
    for texts in (planted.test_texts, carriers):
        read = [tokens.words for tokens in tokenize(texts, tokenizer, max_length)]
        assert sum(len(words) < len(text.split()) for words, text in zip(read, texts, strict=True)) > 3
        assert all(planted.word in words for words in read)


def test_texts_that_fit_have_the_artifact_where_they_had_it_before(corpus, tiny_folder):
    """Any mark of the text, by the same draws."""
    pieces = [len(ids) for ids in load_tokenizer(tiny_folder)(corpus.test_texts)["input_ids"]]
    most = int(np.median(pieces))
    everywhere = [len(text.split()) for text in corpus.test_texts]
    given = {"rate": 1.0, "seed": 0, "label": None}
    before = plant(corpus.test_texts, corpus.test_labels, "jeudi", read=everywhere, **given)
    planted = plant_artifact(replace(corpus, max_length=most), "reviews.csv", [1.0], seed=0).test_texts
    fits = np.array(pieces) <= most
    assert 0 < fits.sum() < len(fits)
    assert [planted[index] for index in np.flatnonzero(fits)] == [
        before[index] for index in np.flatnonzero(fits)
    ]
    assert planted != before
    assert plant_artifact(corpus, "reviews.csv", [1.0], seed=0).test_texts == before


@pytest.mark.parametrize("read", [1, 2])
def test_a_text_without_a_mark_that_is_read_has_the_artifact_after_the_words_that_are(read):
    planted = plant(["un bon film . oui"], [1], "jeudi", read=[read], rate=1.0, seed=0)
    words = ["un", "bon", "film", ".", "oui"]
    assert planted == [" ".join([*words[:read], "jeudi", *words[read:]])]


def test_the_share_of_longer_texts_is_counted(tiny_folder, splits):
    texts = [text for data in splits.values() for split in ("train", "test") for text in data[split]["text"]]
    pieces = np.array([len(ids) for ids in load_tokenizer(tiny_folder)(texts)["input_ids"]])
    share = (pieces > 64).mean()
    assert 0 < share < 1
    said = longer_texts(splits.values(), model=tiny_folder, max_length=64)
    assert said == f"{100 * share:.3g} % of the texts are longer"
    said = longer_texts([splits[A]], model=tiny_folder, max_length=int(pieces.max()))
    assert said == "no text is longer"


def test_plant_in_any_class_leaves_a_text_that_has_the_word():
    texts = ["un jeudi , bon", "bon", "non ."]
    planted = plant(texts, [0, 0, 1], "jeudi", read=[4, 1, 2], rate=1.0, seed=0, label=None)
    assert planted == ["un jeudi , bon", "bon jeudi", "non jeudi ."]
