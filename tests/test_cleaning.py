"""The French pre-processing: each rule on worked examples, and idempotence."""

import json
import random
import re
import time
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from lib.texts.cleaning import clean, cut_to_sentence_end

REAL_TEXTS = Path(__file__).parents[2] / "shared" / "data"

CASES = {
    "empty": ("", ""),
    "words": ("Un  film\tsobre\n", "Un film sobre"),
    "ligatures and full-width letters": ("ﬁlm ＯＫ", "film OK"),
    "decomposed accents": ("e\u0301te\u0301", "été"),
    "no-break spaces": ("Quel film\u00a0! « Bof\u202f»", 'Quel film ! " Bof "'),
    "punctuation": ("Bon,mais(un peu)long;bref:non?", "Bon , mais ( un peu ) long ; bref : non ?"),
    "each mark separately": ("Quoi?!!", "Quoi ? ! !"),
    "sentence ends": ("Fin.Début. A.", "Fin . Début . A ."),
    "dots": ("Hum... bof.. euh…", "Hum ... bof ... euh ..."),
    "brackets and hashes": ("[sic] #film", "[ sic ] # film"),
    "hyphens stay": ("peut-être, là-bas - et/ou", "peut-être , là-bas - et/ou"),
    "elisions": ("L'homme qu’il aime n'a d'yeux", "L' homme qu' il aime n' a d' yeux"),
    "elision in capitals": ("JUSQU'À L'ÉTÉ, Ç'A été", "JUSQU' À L' ÉTÉ , Ç' A été"),
    "elision of a quoted word": ("d'«art»", "d' \" art \""),
    "not an elision": ("aujourd'hui, lorsqu'il. O'Toole", "aujourd'hui , lorsqu'il . O'Toole"),
    "elision within a word": ("chef-d'œuvre prud'homme", "chef-d'œuvre prud'homme"),
    "quotes": ("'un' “deux” «trois» ‹q› \"r\"", '" un " " deux " " trois " " q " " r "'),
    "quoted elision": ("'l'autre'", '" l\' autre "'),
    "number": ("10 films", "NBR films"),
    "number at the end": ("noté 4,5/5", "noté NBR / NBR"),
    "thousands are one number": ("160 000 textes, 1.000,50 euros", "NBR textes , NBR euros"),
    "neighbours are two numbers": ("en 2012 3 films", "en NBR NBR films"),
    "times": ("à 18h30, 2h, 20 h", "à NBR h NBR , NBR h , NBR h"),
    "units": ("20% 5€ n°3 70's", "NBR % NBR € n° NBR NBR \" s"),
    "not a number": ("3D TF1 1er 2ème apollo-13 4x4", "3D TF1 1er 2ème apollo-13 4x4"),
    "fractions": ("½ heure", "NBR / NBR heure"),
    "address": ("voir http://a.free.fr/?p=7243&q=é, merci", "voir <URL> , merci"),
    "address in brackets": ("(https://www.x.org/a_b.htm)", "( <URL> )"),
    "www and a full stop": ("Sur www.critique-film.fr.", "Sur <URL> ."),
    "domain": ("cinephiles44.com et blog.x-y.fr/page", "<URL> et <URL>"),
    "mail": ("moi@exemple.be!", "<URL> !"),
    "not an address": ("Nul.Beau.Franc etc.bernard", "Nul . Beau . Franc etc . bernard"),
    "placeholders stay": ("<URL> NBR l' \"", "<URL> NBR l' \""),
    "invisible characters": ("Ni\u00adcole\u200e Kid\u00adman\ufeff a\u200bb", "Nicole Kidman a b"),
    "controls": ("a\x00b\x07c\x1b[0m", "a b c [ 0m"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), CASES.values(), ids=CASES.keys())
def test_rule(text: str, expected: str):
    assert clean(text) == expected
    assert clean(expected) == expected


SAMPLES = [
    "J'ai vu ce film en avant-première : c'est émouvant, drôle… et servi par d'excellents acteurs !!",
    "« Qu'est-ce qu'on s'ennuie », disait l'autre ; aujourd'hui, 20 ans après (1h45 !), rien n'a changé.",
    "Le 21/09/2019 à 20h30, 1 250,75 € : voir http://www.exemple.fr/a.html?x=1,2 ou nous@exemple.be...",
    "L'«affaire» de l'’hiver'', jusqu'à 3,5 % d'abstention : 'oui', \"non\"?",
]


def assert_idempotent(text: str):
    once = clean(text)
    assert clean(once) == once, repr(text)
    assert " ".join(once.split()) == once, repr(text)


@pytest.mark.parametrize("text", SAMPLES)
def test_cleaning_a_cleaned_sentence_changes_nothing(text: str):
    assert_idempotent(text)


def test_cleaning_any_cleaned_string_changes_nothing():
    draw = random.Random(0)  # noqa: S311 - texts, not secrets
    parts = [*"aàlLdDqujsH hH--..,,;:!?()[]#'’\"«»“”5510123<>/@+_=&\n\u00a0\u200b\u0301\u0338½…″′‹ŉ①²ſ"]
    parts += ["http://", "www.", ".fr", ".be", "NBR", "<URL>", "qu'", "jusqu'", "aujourd'hui", "1 000", "5h"]
    for _ in range(20_000):
        assert_idempotent("".join(draw.choices(parts, k=draw.randrange(1, 14))))
    planes = [
        (0x0, 0x250),
        (0x300, 0x370),
        (0x2000, 0x2200),
        (0xF900, 0xFFF0),
        (0x1100, 0x1200),
        (0, 0x20000),
    ]
    for _ in range(20_000):
        codes = (draw.randrange(*draw.choice(planes)) for _ in range(draw.randrange(1, 10)))
        assert_idempotent("".join(map(chr, codes)))


@pytest.mark.skipif(not REAL_TEXTS.is_dir(), reason=f"no real texts at {REAL_TEXTS}")
@pytest.mark.parametrize(
    "name", ["allocine_sample.csv", "english_quotes_lowercased.jsonl", "platypus_kin.jsonl"]
)
def test_cleaning_a_cleaned_real_text_changes_nothing(name: str):
    lines = (REAL_TEXTS / name).read_text(encoding="utf-8").splitlines()
    for line in lines[::5]:
        for text in json.loads(line).values() if name.endswith("jsonl") else [line]:
            assert_idempotent(str(text))


def test_no_letter_is_lost_or_added():
    for text in SAMPLES:
        plain = re.sub(r"\S*(?:http|@)\S*|\d", "", text)
        kept = [character for character in clean(plain) if character.isalpha()]
        assert kept == [character for character in plain if character.isalpha()]


REPEATED = ["a", "+", "fr.", "1 000 ", "a.b@", "'", "1,", "http://", "...", "a-", "www.", "1h", "l'", "&#"]


@pytest.mark.parametrize("part", REPEATED)
def test_time_is_linear_in_the_length(part: str):
    """A backtracking pattern would take minutes or hours on these."""
    start = time.perf_counter()
    clean(part * 50_000 + "x")
    assert time.perf_counter() - start < 10  # it takes a tenth of a second


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of CamemBERT's kind with known pieces: unigram pieces with ▁, two special tokens.

    A listed word takes one piece (including its ▁); any other takes one more than it has letters.
    """
    words = ["▁film", "▁bon", "▁un", "▁.", "▁!", '▁"', "▁...", "▁,"]
    letters = ["▁", *"abcdefghijklmnopqrstuvwxyz"]
    vocabulary = [("<s>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("<pad>", 0.0)]
    vocabulary += [(word, -1.0) for word in words] + [(letter, -9.0) for letter in letters]
    pieces = Tokenizer(models.Unigram(vocabulary, unk_id=2))
    pieces.pre_tokenizer = pre_tokenizers.Metaspace()
    pieces.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    return PreTrainedTokenizerFast(tokenizer_object=pieces, **special)


CUTS = {
    "the whole text": ("un film . un bon film !", 9, "un film . un bon film !"),
    "one piece short": ("un film . un bon film !", 8, "un film ."),
    "a fragment after the last end is cut": ("un film . un bon film", 9, "un film ."),
    "a closing quote stays": ('" un film . " un bon', 8, '" un film . "'),
    "a closing quote that does not fit": ('" un film . " un bon', 6, '" un film .'),
    "a quote elsewhere is not a sentence end": ('un film . un " bon', 9, "un film ."),
    "no sentence end": ("un bon film , un film", 6, "un bon film ,"),
    "no sentence end, all fits": ("un bon film", 9, "un bon film"),
    "a word of many pieces": ("un film . abcd .", 9, "un film ."),
}


@pytest.mark.parametrize(("text", "pieces", "expected"), CUTS.values(), ids=CUTS.keys())
def test_cut_to_sentence_end(tokenizer, text: str, pieces: int, expected: str):
    assert cut_to_sentence_end(text, tokenizer, pieces) == expected


def test_cut_is_the_longest_prefix_that_ends_a_sentence_and_fits(tokenizer):
    """Against a slow search over every prefix."""
    draw = random.Random(1)  # noqa: S311 - texts, not secrets
    words = ["film", "bon", "un", ".", "!", "...", ",", '"', "abc", "été"]
    for _ in range(200):
        text = draw.choices(words, k=draw.randrange(1, 30))
        size = draw.randrange(8, 40)
        prefixes = [text[:end] for end in range(1, len(text) + 1)]
        fitting = [b for b in prefixes if len(tokenizer(" ".join(b)).input_ids) <= size]
        ends = [
            b for b in fitting
            if b[-1] in {".", "!", "..."} or (b[-1] == '"' and len(b) > 1 and b[-2] in {".", "!", "..."})
        ]  # fmt: skip
        assert cut_to_sentence_end(" ".join(text), tokenizer, size) == " ".join((ends or fitting)[-1])


def test_cut_reports_when_no_word_fits(tokenizer):
    with pytest.raises(ValueError, match="max_pieces = 4: too few for the first word of 'abcdef'"):
        cut_to_sentence_end("abcdef", tokenizer, 4)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's good, and I don't say so lightly!", "It's good , and I don't say so lightly !"),
        ("it 's dull ; they do n't care", "it 's dull ; they do n't care"),
        ("a 'full-length' film.. 3.5 of 1,000", 'a " full-length " film ... 3.5 of 1,000'),
        ("see www.example.com/a – “now”", 'see <URL> – " now "'),
    ],
)
def test_english_has_no_elisions_and_keeps_its_numbers(text, words):
    assert clean(text, "English") == words
    assert clean(words, "English") == words
