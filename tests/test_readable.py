"""Tables of texts are shown as they are, and safely."""

import numpy as np
import pandas as pd

from lib.figures import as_text


def test_shown_texts_keep_their_tags():
    html = as_text(pd.DataFrame({"text": ["<human>", "", np.nan]})).to_html()
    assert "&lt;human&gt;" in html
    assert "(nothing)" in html
