"""What a heat map shows, and that it interprets nothing of the text."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from lib import heatmap
from lib.heatmap import heatmap_html

STRANGE = ["œuvre日本", "<URL>", "<script>alert(1)</script>", "</s>", "[SEP]", "!", "🎬🎬", "fin"]


class Reader(HTMLParser):
    """What a browser would show, and the tags it would interpret."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self.tags, self.attributes = "", set(), []

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs


def read(fragment: str) -> Reader:
    reader = Reader()
    reader.feed(fragment)
    return reader


def test_heat_map_shows_the_text_and_interprets_none_of_it() -> None:
    texts = [*STRANGE, "\"onmouseover='x'", "&amp;", "<img/src=x>"]
    page = read(heatmap_html(texts, np.linspace(-1, 1, len(texts)), title="<b>Avis</b> n° 1"))
    assert page.text == "<b>Avis</b> n° 1 " + " ".join(texts)
    assert page.tags == {"p", "b", "span"}
    assert {name for name, _ in page.attributes} == {"style", "title"}


def test_heat_map_is_darkest_at_the_largest_magnitude_and_marks_signs_without_colour() -> None:
    styles = re.findall(r'<span style="([^"]+)"', heatmap_html(["a", "b", "c"], [0.5, -1.0, 0.0]))
    assert [float(re.search(r"([\d.]+)\)", style)[1]) for style in styles] == [0.38, 0.75, 0]
    assert ["dotted" in style for style in styles] == [False, True, False]


@pytest.mark.parametrize("rgb", [heatmap._FOR, heatmap._AGAINST])
def test_heat_map_letters_stay_readable(rgb: str) -> None:
    # WCAG 2.1: relative luminance of the darkest background, and 4.5 : 1 against black letters.
    linear = []
    for channel in map(int, rgb.split(",")):
        mixed = (0.75 * channel + 0.25 * 255) / 255
        linear.append(((mixed + 0.055) / 1.055) ** 2.4)
    luminance = np.dot([0.2126, 0.7152, 0.0722], linear)
    assert (luminance + 0.05) / 0.05 > 4.5


def test_heat_map_refuses_a_wrong_number_of_relevances() -> None:
    assert read(heatmap_html([], [])).text == ""
    with pytest.raises(ValueError, match="2 finite numbers are required"):
        heatmap_html(["a", "b"], [1.0])
    with pytest.raises(ValueError, match="2 finite numbers are required"):
        heatmap_html(["a", "b"], [1.0, np.inf])


def test_heat_map_is_relative_to_the_texts_largest_magnitude() -> None:
    page = heatmap_html(["a", "b"], [2.0, -4.0])
    assert [float(value) for value in re.findall(r"([\d.]+)\); padding", page)] == [0.38, 0.75]
