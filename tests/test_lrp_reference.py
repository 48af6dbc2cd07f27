"""Relevance against the numbers that the published code gives for a small BERT (tests/data/lrp_reference)."""

from pathlib import Path

import lrp_literal as literal
import numpy as np
import pytest
import torch
from transformers import BertForSequenceClassification

from lib.lrp import relevance_by_layer, token_relevance

FOLDER = Path(__file__).parent / "data" / "lrp_reference"
INPUTS = np.load(FOLDER / "inputs.npz", allow_pickle=False)
EXAMPLES = range(6)
DOUBLE = 1e-9  # of a row's maximum; the first entry, about 1, is compared separately


@pytest.fixture(scope="module")
def model():
    return BertForSequenceClassification.from_pretrained(FOLDER).double().eval()


def text(example, padded):
    ids = torch.from_numpy(INPUTS[f"ex{example}_input_ids"])
    if not padded:
        return ids[None], None
    length, pad = int(INPUTS["pad_to"]), int(INPUTS["pad_token_id"])
    mask = (torch.arange(length) < len(ids)).long()
    return torch.nn.functional.pad(ids, (0, length - len(ids)), value=pad)[None], mask[None]


def load(padded):
    name = "reference_padded.npz" if padded else "reference.npz"
    with np.load(FOLDER / name, allow_pickle=False) as arrays:
        return {key: torch.from_numpy(arrays[key].astype(np.float64)) for key in arrays.files}


def error(found, expected):
    return float((found.double() - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("start_layer", [0, 1])
@pytest.mark.parametrize(("name", "target"), [("pred", None), ("c1", 1)])
@pytest.mark.parametrize("padded", [False, True])
def test_float64_matches_the_published_code(model, padded, name, target, start_layer):
    reference = load(padded)
    for example in EXAMPLES:
        row = token_relevance(model, *text(example, padded), target, start_layer)[0]
        expected = reference[f"ex{example}_{name}_s{start_layer}_raw_f64"]
        assert error(row[1:], expected[1:]) < DOUBLE
        assert abs(row[0] - expected[0]) < DOUBLE


@pytest.mark.parametrize("start_layer", [0, 1])
def test_a_padded_batch_matches_the_published_code_text_by_text(model, start_layer):
    reference = load(padded=True)
    ids, masks = zip(*(text(example, padded=True) for example in EXAMPLES), strict=True)
    rows = token_relevance(model, torch.cat(ids), torch.cat(masks), None, start_layer)
    for example, row in enumerate(rows):
        expected = reference[f"ex{example}_pred_s{start_layer}_raw_f64"]
        assert error(row[1:], expected[1:]) < DOUBLE


@pytest.mark.parametrize("padded", [False, True])
def test_relevance_at_the_embeddings_matches_the_published_code(model, padded):
    reference = load(padded)
    for example in EXAMPLES:
        *_, bottom = relevance_by_layer(model, *text(example, padded), target=1)
        assert bottom.layer == -1
        assert bottom.map is None
        assert error(bottom.relevance[0].sum(-1), reference[f"ex{example}_c1_full_raw_f64"]) < DOUBLE


@pytest.mark.parametrize("padded", [False, True])
def test_every_layers_map_matches_the_published_code(model, padded):
    reference = load(padded)
    steps = list(relevance_by_layer(model, *text(0, padded)))[:-1]
    assert [step.layer for step in steps] == [2, 1, 0]
    for step in steps:
        assert error(step.map[0], reference["ex0_pred_cams_f64"][step.layer]) < DOUBLE


@pytest.mark.parametrize("padded", [False, True])
def test_float32_is_within_one_percent(padded):
    model, reference = BertForSequenceClassification.from_pretrained(FOLDER).eval(), load(padded)
    for example in EXAMPLES:
        row = token_relevance(model, *text(example, padded))[0]
        assert row.dtype == torch.float32
        assert error(row[1:], reference[f"ex{example}_pred_s1_raw_f64"][1:]) < 1e-2


@pytest.mark.parametrize("padded", [False, True])
def test_the_literal_transcription_matches_the_published_code_step_by_step(model, padded):
    reference = load(padded)
    ids, mask = text(0, padded)
    _, layers = literal.explain(model, ids[0], None if mask is None else mask[0])
    for index, layer in enumerate(layers):
        assert error(layer["gradient"], reference["ex0_pred_attn_grad_f64"][index]) < DOUBLE
        assert error(layer["probabilities"], reference["ex0_pred_attn_cam_f64"][index]) < DOUBLE
        assert error(layer["map"], reference["ex0_pred_cams_f64"][index]) < DOUBLE
    row = literal.rollout([layer["map"] for layer in layers], 1)
    assert error(row[1:], reference["ex0_pred_s1_raw_f64"][1:]) < DOUBLE
