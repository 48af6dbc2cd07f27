"""French morphology that frames cannot spell out: agreement, and elision and contraction of neighbours."""

Forms = tuple[str, str, str, str]
"""Masculine singular, feminine singular, masculine plural, feminine plural."""

_ELIDED = {"le", "la", "de", "que", "ne", "je", "se", "me", "te", "jusque"}
_CONTRACTED = {("de", "le"): "du", ("de", "les"): "des", ("à", "le"): "au", ("à", "les"): "aux"}
_BEFORE_VOWEL = {"ce": "cet", "ma": "mon", "sa": "son"}
# An aspirated h behaves like a consonant: "le héros", not "l' héros". "héroïne" has a mute h, unlike "héros".
_ASPIRATED = """
    hach hain haïr haïss halet hall halt hamac hameau handi hangar harc hard hasard hât hausse haut hibou
    hideu hiérarch hockey holland homard hongr hont hors huis huit hurl heurt héros
"""


def inflect_adjective(word: str) -> Forms:
    """Return the four forms of an adjective or participle.

    Parameters
    ----------
    word : str
        The masculine singular ("captivant"), or, for irregular words, masculine/feminine ("creux/creuse") or
        all four forms ("banal/banale/banals/banales").

    Returns
    -------
    tuple of str, (4,)
        Masculine singular, feminine singular, masculine plural, feminine plural.
    """
    masculine, *others = word.split("/")
    if len(others) == 3:
        return masculine, others[0], others[1], others[2]
    feminine = others[0] if others else _feminine(masculine)
    if masculine[-1] in "sx":
        plural = masculine
    elif masculine.endswith("al"):
        plural = masculine[:-1] + "ux"
    else:
        plural = masculine + ("x" if masculine.endswith("eau") else "s")
    return masculine, feminine, plural, feminine + "s"


def _feminine(masculine: str) -> str:
    endings = {
        "eux": "euse",
        "if": "ive",
        "er": "ère",
        "el": "elle",
        "eil": "eille",
        "en": "enne",
        "on": "onne",
    }
    if masculine.endswith("e"):
        return masculine
    for ending, feminine in endings.items():
        if masculine.endswith(ending):
            return masculine[: -len(ending)] + feminine
    return masculine + "e"


def inflect_verb(word: str) -> Forms:
    """Return the third person of a verb, in the order of `inflect_adjective` (verbs have no gender).

    Parameters
    ----------
    word : str
        The singular if the plural is regular ("captive"), else singular/plural ("déçoit/déçoivent").

    Raises
    ------
    ValueError
        If only a singular is given and it does not end in -e.
    """
    singular, _, plural = word.partition("/")
    if not plural:
        if not singular.endswith("e"):
            raise ValueError(
                f"verb {word!r}: a singular not ending in -e needs its plural, as in 'dort/dorment'"
            )
        plural = singular + "nt"
    return singular, singular, plural, plural


def begins_with_vowel(word: str) -> bool:
    """Whether the word before ``word`` is elided: "l' arbre", "n' y"; but not "le héros", "le oui"."""
    word = word.lower()
    if word[0] == "h":
        return not word.startswith(tuple(_ASPIRATED.split()))
    return word == "y" or (word[0] in "aàâeéèêëiîïoôuùûœ" and word not in {"oui", "onze"})


def join_neighbours(word: str, following: str) -> tuple[str, bool]:
    """Return how ``word`` is written before ``following``, and whether it absorbs it.

    Parameters
    ----------
    word, following : str
        Two neighbouring words; ``following`` as written before its own successor.

    Returns
    -------
    tuple of str and bool
        ("l'", False) for le + arbre; ("du", True) for de + le, which are written as one word.
    """
    if (word, following) in _CONTRACTED:
        return _CONTRACTED[word, following], True
    if word in _ELIDED and begins_with_vowel(following):
        return word[:-1] + "'", False
    if word == "si" and following in {"il", "ils"}:
        return "s'", False
    if word in _BEFORE_VOWEL and begins_with_vowel(following):
        return _BEFORE_VOWEL[word], False
    return word, False
