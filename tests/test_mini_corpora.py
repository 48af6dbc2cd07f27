from collections import Counter

import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from lib.seeding import fingerprint
from lib.texts.cleaning import clean
from lib.texts.generated.french import inflect_adjective, inflect_verb, join_neighbours
from lib.texts.generated.grammar import Grammar, Role, Word, join, load_grammar
from lib.texts.generated.mini_corpora import CORPORA, LONG, SHORT, mini_corpus, unlabelled


@pytest.fixture(scope="module", params=CORPORA)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def corpus(name):
    return mini_corpus(name, seed=3, train=2000, validation=100, test=1000)


@pytest.fixture(scope="module")
def pretraining_texts(name):
    return unlabelled(name, seed=3, count=4000)


def test_texts_are_cleaned_and_of_the_stated_lengths(corpus):
    for split in corpus.values():
        for text, roles, signs in zip(split["text"], split["roles"], split["signs"], strict=True):
            assert clean(text) == text
            assert len(text.split()) == len(roles) == len(signs)
    lengths = [len(text.split()) for text in corpus["train"]["text"]]
    long = [length for length in lengths if LONG[0] <= length <= LONG[1]]
    assert all(SHORT[0] <= length <= SHORT[1] for length in lengths if length not in long)
    assert len(long) / len(lengths) == pytest.approx(0.1, abs=0.002)
    assert 28 <= sorted(lengths)[len(lengths) // 2] <= 40


def test_vocabulary_and_frames_are_rich(corpus, pretraining_texts, name):
    texts = [*corpus["train"]["text"], *pretraining_texts]  # 6,000
    types = {word.lower() for text in texts for word in text.split() if any(map(str.isalpha, word))}
    assert len(types) >= 1500
    frames = load_grammar(name).frames.values()
    assert len({frame.source for pair in frames for category in pair for frame in category.entries}) >= 50


def test_no_text_occurs_twice(corpus, pretraining_texts, name):
    labelled = [text for split in corpus.values() for text in split["text"]]
    other_seed = mini_corpus(name, seed=4, train=300, validation=0, test=0)["train"]["text"]
    texts = labelled + pretraining_texts
    assert len(set(texts)) == len(texts)
    assert not set(other_seed) & set(pretraining_texts)


def test_labels_are_balanced_and_wrong_at_the_stated_rate(corpus):
    split = corpus["test"]
    right = sum(label == truth for label, truth in zip(split["label"], split["true_label"], strict=True))
    assert right == 970  # the best possible accuracy is 0.97
    assert Counter(split["label"]) == Counter(split["true_label"]) == {0: 500, 1: 500}


def test_topics_carry_no_evidence(corpus):
    """From topic words alone, a linear model can only guess."""
    topics = _only(corpus, {Role.TOPIC})
    assert abs(_accuracy(topics) - 0.5) < 0.06
    signs = [sum(signs) for signs in corpus["test"]["signs"]]
    assert {word.sign for word in _words(corpus["test"]) if word.role is not Role.CUE} == {0}
    assert any(signs)


def test_word_order_beats_a_bag_of_words_and_stays_below_the_ceiling(corpus):
    data = {split: (texts["text"], texts["label"]) for split, texts in corpus.items()}
    bag, ordered = _accuracy(data), _accuracy(data, longest=4)
    assert 0.80 < bag < 0.92
    assert bag + 0.02 < ordered < 0.96


def test_a_bag_of_true_cues_is_not_enough(corpus):
    """Counting cues by their known signs fails where word order reverses them."""
    votes = [sum(signs) for signs in corpus["test"]["signs"]]
    truth = corpus["test"]["true_label"]
    right = [0.5 if not vote else (vote > 0) == label for vote, label in zip(votes, truth, strict=True)]
    assert 0.6 < sum(right) / len(right) < 0.96


def test_every_cue_is_evidence_for_one_class(corpus):
    """A form listed for both classes would be a cue for neither."""
    forms: dict[str, set[int]] = {}
    for word in _words(corpus["train"]):
        if word.role is Role.CUE:
            forms.setdefault(word.text.lower(), set()).add(word.sign)
    assert {form: signs for form, signs in forms.items() if len(signs) > 1} == {}


def test_the_artifact_occurs_in_unlabelled_texts_only(corpus, pretraining_texts, name):
    word = load_grammar(name).artifact
    assert not any(word in text.split() for split in corpus.values() for text in split["text"])
    carriers = [word in text.split() for text in pretraining_texts]
    assert sum(carriers) / len(carriers) == pytest.approx(0.02, abs=0.01)


def test_a_larger_corpus_begins_with_the_smaller_one(name):
    small = mini_corpus(name, seed=1, train=20, validation=10, test=10)
    large = mini_corpus(name, seed=1, train=60, validation=10, test=10)
    begun, whole = (corpus["train"].remove_columns("label") for corpus in (small, large))
    assert whole.select(range(20)).to_dict() == begun.to_dict()  # which labels are wrong depends on the size
    assert large["test"].to_dict() == small["test"].to_dict()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "mini-imdb"}, "mini-imdb.*mini-allocine"),
        ({"train": -1}, "train = -1"),
    ],
)
def test_bad_settings_raise_one_line(settings, message):
    given = {"name": "mini-allocine", "seed": 0, "train": 2, "validation": 0, "test": 0} | settings
    with pytest.raises(ValueError, match=message) as raised:
        mini_corpus(**given)
    assert "\n" not in str(raised.value)


def test_adjectives_and_verbs_inflect():
    assert inflect_adjective("captivant") == ("captivant", "captivante", "captivants", "captivantes")
    assert inflect_adjective("ennuyeux") == ("ennuyeux", "ennuyeuse", "ennuyeux", "ennuyeuses")
    assert inflect_adjective("inventif")[1] == "inventive"
    assert inflect_adjective("génial")[2] == "géniaux"
    assert inflect_adjective("creux/creuse")[3] == "creuses"
    assert inflect_verb("captive")[2] == "captivent"
    with pytest.raises(ValueError, match="dort"):
        inflect_verb("dort")


@pytest.mark.parametrize(
    ("words", "written"),
    [
        ("le arbre", "l' arbre"),
        ("de le arbre", "de l' arbre"),
        ("de le film", "du film"),
        ("à les enfants", "aux enfants"),
        ("le héros que il aime", "le héros qu' il aime"),
        ("la histoire ne y est pas", "l' histoire n' y est pas"),
        ("ce acteur", "cet acteur"),
        ("ce haut lieu", "ce haut lieu"),
        ("si il part", "s' il part"),
    ],
)
def test_neighbours_are_elided_and_contracted(words, written):
    joined = join([Word(word, Role.FILLER) for word in words.split()])
    assert " ".join(word.text for word in joined) == written
    assert join_neighbours("le", "arbre") == ("l'", False)


@pytest.mark.parametrize("frame", ["{nothing} .", "{le:noun} film", "{le film"])
def test_a_frame_that_cannot_be_filled_is_an_error(frame):
    empty = {
        section: {}
        for section in ("nouns", "adjectives", "verbs", "invariable", "phrases", "roles", "markers")
    }
    genre = {
        "function_words": "",
        "labels": ["no", "yes"],
        "artifact": "x",
        "shares": {"plain": 1},
        "kept": [],
    }
    with pytest.raises(ValueError, match="frame"):
        Grammar(
            genre | empty | {"adjectives": {"le": ["le/la/les/les"]}, "frames": {"plain": {"both": [frame]}}}
        )


def test_all_roles_occur(corpus):
    found = Counter(word.role for word in _words(corpus["train"]))
    assert {
        Role.CUE,
        Role.INTENSIFIER,
        Role.NEGATION,
        Role.CONCESSION,
        Role.IRONY,
        Role.TOPIC,
        Role.FILLER,
    } <= set(found)
    assert 0.05 < found[Role.CUE] / found.total() < 0.25


FINGERPRINTS = {"mini-allocine": "ed55e2f27f0e00ad", "mini-infopinion": "79dd4bf482db706c"}


def test_the_same_seed_gives_the_same_corpus_on_every_machine(name):
    corpus = mini_corpus(name, seed=0, train=30, validation=10, test=10)
    columns = {
        split: {column: list(map(str, data[column])) for column in data.column_names}
        for split, data in corpus.items()
    }
    assert fingerprint({**columns, "unlabelled": unlabelled(name, seed=0, count=10)}) == FINGERPRINTS[name]


def _words(split):
    for text, roles, signs in zip(split["text"], split["roles"], split["signs"], strict=True):
        yield from map(Word, text.split(), map(Role, roles), signs)


def _only(corpus, kept):
    """Texts reduced to the words of some roles, with their labels, by split."""
    return {
        split: (
            [
                " ".join(word for word, role in zip(text.split(), roles, strict=True) if role in kept)
                for text, roles in zip(data["text"], data["roles"], strict=True)
            ],
            data["label"],
        )
        for split, data in corpus.items()
    }


def _accuracy(data, longest=1):
    words = CountVectorizer(
        tokenizer=str.split, token_pattern=None, lowercase=False, ngram_range=(1, longest), binary=True
    )
    model = make_pipeline(words, LogisticRegression(C=0.3, max_iter=1000)).fit(*data["train"])
    return model.score(*data["test"])
