"""From pieces to words, and paper 1's normalisation."""

import sys

import numpy as np
import pytest
from small import CORPUS, bert_tokenizer, camembert_tokenizer, roberta_tokenizer
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from lib import words
from lib.words import Tokens

# Words and letters unknown to the tokenizers below, and text that looks like markup or a special token.
STRANGE = "L' ❤❤ d' aujourd'hui œuvre日本 <URL> <script>alert(1)</script> </s> [SEP] ! 🎬🎬 fin"


TOKENIZERS = {
    "sentencepiece": camembert_tokenizer(),
    "wordpiece": bert_tokenizer(),
    "byte-level": roberta_tokenizer(),
    "byte-level, spaces kept": roberta_tokenizer(trim_offsets=False),
}
any_tokenizer = pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS.keys())


def cut(text: str, tokenizer: PreTrainedTokenizerBase, max_length: int = 500) -> Tokens:
    return words.tokenize([text], tokenizer, max_length)[0]


# From pieces to words


@any_tokenizer
@pytest.mark.parametrize("text", [*CORPUS, STRANGE, "ennuyeuse", "❤"])
def test_words_are_those_of_the_text(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    tokens = cut(text, tokenizer)
    assert tokens.words == text.split()
    assert tokens.input_ids == tokenizer(text)["input_ids"]
    assert set(tokens.owners) == set(range(len(tokens.words)))  # every word has a piece
    specials = {0, len(tokens.input_ids) - 1}
    assert set(tokens.pieces) == set(range(len(tokens.input_ids))) - specials  # every other piece has a word


@any_tokenizer
def test_a_word_has_the_pieces_it_would_have_alone(tokenizer: PreTrainedTokenizerBase) -> None:
    text = CORPUS[0]
    tokens = cut(text, tokenizer)
    for place, word in enumerate(text.split()):
        found = [tokens.input_ids[piece] for piece in tokens.pieces[tokens.owners == place]]
        alone = word if place == 0 else f" {word}"  # a byte-level piece holds the space before it
        assert found == tokenizer(alone, add_special_tokens=False)["input_ids"]


def test_a_lone_sentencepiece_space_belongs_to_the_following_word() -> None:
    tokenizer = TOKENIZERS["sentencepiece"]
    tokens = cut("la 日本 mer", tokenizer)
    pieces = tokenizer.convert_ids_to_tokens(tokens.input_ids)
    assert pieces[pieces.index("<unk>") - 1] == "▁"
    assert [pieces[piece] for piece in tokens.pieces[tokens.owners == 1]] == ["▁", "<unk>"]


def test_relevance_of_a_word_is_the_mean_over_its_pieces_and_special_tokens_are_dropped() -> None:
    tokenizer = TOKENIZERS["wordpiece"]
    pieces = tokenizer.tokenize("étoiles d'ennuyeuse")
    tokens = cut("étoiles d'ennuyeuse", tokenizer)
    first = len(tokenizer.tokenize("étoiles"))
    relevance = np.arange(len(tokens.input_ids)) ** 2.0
    means = words.to_words(tokens, relevance)
    assert tokens.words == ["étoiles", "d'ennuyeuse"]  # WordPiece would have made three words of these
    by_hand = [np.mean(relevance[1 : first + 1]), np.mean(relevance[first + 1 : len(pieces) + 1])]
    np.testing.assert_allclose(means, by_hand)


def test_rows_of_seeds_are_independent_and_right_padding_is_ignored() -> None:
    rng = np.random.default_rng(0)
    tokens = cut(CORPUS[2], TOKENIZERS["byte-level"])
    relevance = rng.normal(size=(3, len(tokens.input_ids) + 7)).astype(np.float32)
    means = words.to_words(tokens, relevance)
    assert means.shape == (3, len(tokens.words))
    for row, one in zip(relevance, means, strict=True):
        np.testing.assert_array_equal(words.to_words(tokens, row[: len(tokens.input_ids)]), one)


@any_tokenizer
def test_a_truncated_text_keeps_the_words_that_fit(tokenizer: PreTrainedTokenizerBase) -> None:
    text = CORPUS[1]
    whole = cut(text, tokenizer)
    for max_length in range(2, len(whole.input_ids) + 1):
        tokens = cut(text, tokenizer, max_length)
        assert len(tokens.input_ids) <= max_length
        room = max_length - 1  # the last position is the closing special token's
        last_piece = [whole.pieces[whole.owners == word].max() for word in range(len(whole.words))]
        fitting = [word for word, piece in zip(whole.words, last_piece, strict=True) if piece < room]
        assert tokens.words == (whole.words if max_length == len(whole.input_ids) else fitting)
        assert set(tokens.owners) == set(range(len(tokens.words)))


def test_a_word_without_pieces_keeps_its_position_with_relevance_0() -> None:
    tokens = cut("la \u0007\u0007 mer", TOKENIZERS["wordpiece"])  # BERT removes control characters
    means = words.to_words(tokens, np.full(len(tokens.input_ids), 2.0))
    assert tokens.words == ["la", "\u0007\u0007", "mer"]
    np.testing.assert_array_equal(means, [2, 0, 2])


def test_a_piece_spanning_several_words_belongs_to_each() -> None:
    tokenizer = Tokenizer(models.WordLevel({"pomme de terre": 0, " cuite": 1}))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("pomme de terre| cuite"), "isolated")
    tokens = cut("pomme de terre cuite", PreTrainedTokenizerFast(tokenizer_object=tokenizer))
    means = words.to_words(tokens, [3.0, 5.0])
    assert (tokens.words, means.tolist()) == (["pomme", "de", "terre", "cuite"], [3, 3, 3, 5])


def test_words_of_texts_with_any_white_space_and_of_empty_texts() -> None:
    spaces = "".join(c for c in map(chr, range(sys.maxunicode + 1)) if c.isspace())
    text = f" la{spaces}mer "
    assert cut(text, TOKENIZERS["byte-level"]).words == text.split() == ["la", "mer"]
    for empty in ("", "  "):
        tokens = cut(empty, TOKENIZERS["sentencepiece"])
        means = words.to_words(tokens, np.zeros(len(tokens.input_ids)))
        assert (tokens.words, means.shape) == ([], (0,))
        assert words.normalise(means, 0).shape == (0,)


def test_a_data_set_gives_what_its_texts_give_one_by_one() -> None:
    tokens = words.tokenize(CORPUS, TOKENIZERS["sentencepiece"], 30)
    rng = np.random.default_rng(0)
    relevance = [rng.random(len(text.input_ids)) for text in tokens]
    for text, row, means in zip(tokens, relevance, words.texts_to_words(tokens, relevance), strict=True):
        np.testing.assert_array_equal(means, words.to_words(text, row))


def test_too_few_relevances_and_slow_tokenizers_are_refused() -> None:
    tokens = cut("la mer", TOKENIZERS["wordpiece"])
    count = len(tokens.input_ids)
    with pytest.raises(ValueError, match=f"{count - 1} relevances for a text of {count} pieces"):
        words.to_words(tokens, np.zeros(count - 1))

    class Slow:
        is_fast = False

    with pytest.raises(ValueError, match="tokenizer is a Slow without offsets"):
        words.tokenize(["la mer"], Slow(), 10)


# Paper 1's normalisation and ranking


def normalised_step_by_step(row: np.ndarray, word_of: list[int | None], predicted: int) -> np.ndarray:
    """Paper 1's code, step by step; ``row`` is one text's relevance of pieces, special tokens included."""
    row = row.copy()
    row[0] = row.min()
    row = (row - row.min()) / (row.max() - row.min())
    if predicted == 1:
        row = -row
    values = []
    for word in sorted({word for word in word_of if word is not None}):
        values.append(np.mean([value for value, owner in zip(row, word_of, strict=True) if owner == word]))
    values = np.array(values)

    def min_max_and_sum(values: np.ndarray) -> np.ndarray:
        sign = -1 if values.sum() < 0 else 1
        magnitude = sign * values
        magnitude = (magnitude - magnitude.min()) / (magnitude.max() - magnitude.min())
        return sign * magnitude / magnitude.sum()

    values = min_max_and_sum(values)
    values = np.where(values < 0, values, 0) if predicted == 1 else np.where(values >= 0, values, 0)
    return min_max_and_sum(values)


@pytest.mark.parametrize("predicted", [0, 1])
@pytest.mark.parametrize("signed", [False, True])
def test_normalise_equals_all_of_the_papers_steps(predicted: int, signed: bool) -> None:
    rng = np.random.default_rng(predicted)
    tokens = cut(CORPUS[3], TOKENIZERS["wordpiece"])
    word_of = [None] * len(tokens.input_ids)
    for piece, word in zip(tokens.pieces, tokens.owners, strict=True):
        word_of[piece] = word
    for _ in range(20):
        row = rng.normal(size=len(word_of)) if signed else rng.exponential(size=len(word_of))
        row[0] = 40.0  # a rollout's first entry is large; the first step removes it
        ours = words.normalise(words.to_words(tokens, row), predicted)
        np.testing.assert_allclose(ours, normalised_step_by_step(row, word_of, predicted), atol=1e-12)
        assert ours.sum() == pytest.approx(-1 if predicted else 1)


def test_normalise_by_hand() -> None:
    # min-max of 1, 2, 5: 0, 1/4, 1; sum 5/4.
    np.testing.assert_allclose(words.normalise([1.0, 2.0, 5.0], 0), [0, 0.2, 0.8])
    np.testing.assert_allclose(words.normalise([1.0, 2.0, 5.0], 1), [0, -0.2, -0.8])
    rows = words.normalise([[1.0, 2.0, 5.0], [3.0, 3.0, 3.0]], np.array([1, 0], dtype=np.uint8))
    np.testing.assert_allclose(rows, [[0, -0.2, -0.8], [1 / 3, 1 / 3, 1 / 3]])


def test_equally_relevant_words_share_the_sum() -> None:
    np.testing.assert_array_equal(words.normalise([0.3], 1), [-1])
    np.testing.assert_array_equal(words.normalise([0.0, 0.0, 0.0, 0.0], 0), [0.25] * 4)


def test_normalise_refuses_nan_and_unknown_classes() -> None:
    with pytest.raises(ValueError, match="1 relevances of the text are not finite"):
        words.normalise([1.0, np.nan], 0)
    with pytest.raises(ValueError, match="predicted = 2: allowed are the classes 0 and 1"):
        words.normalise([1.0, 2.0], 2)
