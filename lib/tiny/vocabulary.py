"""CamemBERT's kind of tokenizer for few texts: SentencePiece's unigram pieces, and frequent whole words."""

import io
import math
from collections import Counter
from collections.abc import Sequence

import sentencepiece
from transformers import CamembertTokenizer

MIN_WORD_COUNT = 5  # of a word that becomes a piece
# CamemBERT's own first entries: padding is piece 1, as its position numbers assume.
SPECIAL_PIECES = ("<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED", "<s>", "</s>")


def train_tokenizer(texts: Sequence[str], vocabulary: int, max_length: int) -> CamembertTokenizer:
    """Train a unigram tokenizer with ▁ at the start of words, using SentencePiece as CamemBERT did.

    SentencePiece provides half of the vocabulary. It takes its candidates from the *distinct* words, so a
    word that shares no part with others never becomes a piece, however frequent; in a small corpus, most
    words are of this kind. The most frequent words fill the other half, each scored by its frequency. Texts
    are sorted and scores rounded, so the same texts give the same pieces on every machine.

    Parameters
    ----------
    texts : sequence of str
        Words separated by spaces.
    vocabulary : int
        Maximum number of pieces, including special ones.
    max_length : int
        Maximum number of pieces of a text.
    """
    texts = sorted(set(texts))
    file = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=file,
        model_type="unigram",
        vocab_size=vocabulary // 2,
        hard_vocab_limit=False,  # few texts yield fewer pieces
        normalization_rule_name="identity",  # texts are already normalised
        max_sentence_length=100_000,  # bytes; longer texts would be left out
        num_threads=2,
        minloglevel=2,
    )
    trained = sentencepiece.SentencePieceProcessor(model_proto=file.getvalue())
    scores = {trained.id_to_piece(i): trained.get_score(i) for i in range(len(trained))}
    scores = {piece: score for piece, score in scores.items() if piece not in ("<unk>", "<s>", "</s>")}
    counts = Counter("▁" + word for text in texts for word in text.split())
    for word, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if count < MIN_WORD_COUNT or len(scores) + len(SPECIAL_PIECES) + 1 >= vocabulary:
            break
        scores.setdefault(word, math.log(count / counts.total()))
    pieces = sorted(
        ((piece, round(score, 3)) for piece, score in scores.items()), key=lambda p: (-p[1], p[0])
    )
    special = [(piece, 0.0) for piece in SPECIAL_PIECES]
    return CamembertTokenizer(vocab=[*special, *pieces, ("<mask>", 0.0)], model_max_length=max_length)
