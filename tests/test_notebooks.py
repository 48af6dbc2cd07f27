"""The source notebooks as a product, and the executed ones as made from them."""

import ast
import json
import re
import subprocess
import sys
from unittest.mock import MagicMock

import execute
import nbformat
import numpy as np
import papermill
import pytest
import yaml
from nbformat.v4 import new_code_cell
from small import save_model

from lib import claims
from lib.crossed import Crossed
from lib.paper2 import model_types
from lib.paper2.proxy import factor_of
from lib.settings import PROJECT_ROOT

NOTEBOOKS = sorted((PROJECT_ROOT / "notebooks").glob("[0-9]_*.ipynb"))
COMMITTED = ("demo", "real")  # profiles whose executed notebooks are in the repository
EXECUTED = [
    path
    for profile in COMMITTED
    for path in sorted((PROJECT_ROOT / "notebooks" / "executed" / profile).glob("*.ipynb"))
]
PROFILES = ("smoke", "demo", "real", "gpu", "paper")
FOLDERS = ("cache_dir", "figure_dir")

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
each_executed = pytest.mark.parametrize("path", EXECUTED, ids=lambda path: f"{path.parent.name}-{path.stem}")


def read(path):
    return nbformat.read(path, as_version=4)


def code(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


@each_notebook
def test_a_source_notebook_carries_no_outputs(path):
    for cell in read(path).cells:
        if cell.cell_type == "code":
            assert not cell.outputs
            assert cell.execution_count is None


@each_notebook
def test_every_parameter_is_listed_with_its_type_and_a_help(path):
    (cell,) = [c for c in read(path).cells if "parameters" in c.metadata.get("tags", [])]
    lines = cell.source.splitlines()
    assert all(re.fullmatch(r"\w+: (str|int|float|bool) = .+  # .+", line) for line in lines), lines
    listed = papermill.inspect_notebook(str(path))
    assert list(listed) == [line.partition(":")[0] for line in lines]
    assert all(details["help"] and details["inferred_type_name"] != "None" for details in listed.values())


@each_notebook
@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_names_known_parameters_of_the_right_type(path, profile):
    given = yaml.safe_load((PROJECT_ROOT / "params" / profile / f"{path.stem}.yaml").read_text()) or {}
    known = papermill.inspect_notebook(str(path))
    assert set(given) <= set(known)
    for name, value in given.items():
        default = ast.literal_eval(known[name]["default"])
        assert type(value) is type(default) or (type(default) is float and type(value) is int), name


@each_notebook
@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_keeps_its_runs_and_figures_in_folders_of_its_name(path, profile):
    """`python -m lib.runs prune --profile NAME` finds them there."""
    given = yaml.safe_load((PROJECT_ROOT / "params" / profile / f"{path.stem}.yaml").read_text()) or {}
    known = papermill.inspect_notebook(str(path))
    folders = {name: given.get(name, ast.literal_eval(known[name]["default"])) for name in FOLDERS}
    assert folders == {"cache_dir": f".cache/{profile}", "figure_dir": f"figures/{profile}/{path.stem}"}


@pytest.mark.parametrize("profile", PROFILES)
def test_notebooks_1_and_2_share_their_encoder(profile):
    chosen = []
    for path in NOTEBOOKS[:2]:
        defaults = papermill.inspect_notebook(str(path))
        given = yaml.safe_load((PROJECT_ROOT / "params" / profile / f"{path.stem}.yaml").read_text()) or {}
        names = ("model", "pretraining_texts", "pretraining_steps", "data_seed", "cache_dir")
        chosen.append([given.get(name, ast.literal_eval(defaults[name]["default"])) for name in names])
    assert chosen[0] == chosen[1]


@each_executed
def test_a_committed_execution_comes_from_the_current_source(path):
    made = [
        cell.source for cell in read(path).cells if "injected-parameters" not in cell.metadata.get("tags", [])
    ]
    assert made == [cell.source for cell in read(PROJECT_ROOT / "notebooks" / path.name).cells]


@each_executed
def test_a_committed_execution_is_whole_and_shows_no_error_and_no_place(path):
    notebook = read(path)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.execution_count is not None
            assert not any(output.output_type == "error" for output in cell.outputs)
    assert str(PROJECT_ROOT) not in json.dumps(notebook)
    assert path.with_suffix(".html").is_file()


def closing_table(path, folder, *, twice):
    """Execute a notebook at smoke, or every code cell of it twice in a row; return its verdicts."""
    notebook = read(path)
    cells = []
    for cell in notebook.cells:
        # papermill injects after the parameters cell, which must not be executed again after that
        repeat = twice and cell.cell_type == "code" and "parameters" not in cell.metadata.get("tags", [])
        cells += [cell, new_code_cell(cell.source)] if repeat else [cell]
    notebook.cells = cells
    folder.mkdir()
    nbformat.write(notebook, folder / path.name)
    return executed_at_smoke(folder / path.name, folder)


def executed_at_smoke(path, folder, **changed):
    """Execute a notebook at smoke, its figures in a folder; return its verdicts."""
    given = yaml.safe_load((PROJECT_ROOT / "params" / "smoke" / f"{path.stem}.yaml").read_text())
    papermill.execute_notebook(
        path,
        None,
        given | {"figure_dir": str(folder)} | changed,
        cwd=PROJECT_ROOT,
        progress_bar=False,
        extra_arguments=["--IPKernelApp.log_level=40"],
    )
    return (folder / "verdicts.csv").read_text()


@pytest.mark.slow
@each_notebook
def test_cells_executed_twice_in_a_row_give_the_same_closing_table(path, tmp_path):
    """As people do in JupyterLab. The runs are those of the smoke profile, which may be kept already."""
    once, twice = (closing_table(path, tmp_path / name, twice=name == "twice") for name in ("once", "twice"))
    assert len(once.splitlines()) > 10
    assert once == twice


# As little as possible: what matters is that every cell runs.
FEW = {
    "1_finetuned_vs_frozen": {
        "train_texts": 40,
        "other_train_texts": 40,
        "validation_texts": 4,
        "head_epochs": 1,
        "explained_texts": 8,
        "compared_texts": 2,
        "min_appearances": 1,
        "further_texts": 20,
        "further_explained": 4,
    },
    "2_finetuning_surface_vs_snr": {
        "train_texts": 40,
        "explained_texts": 4,
        "head_epochs": 1,
        "quantizations": "nf4",
        "curve": "biases lora:1",
        "matched_texts": "",
        "encoders": 0,
        "method_texts": 2,
    },
    "3_qlora_repeatability": {"completed": 1, "samples": 2, "answered": 2, "new_tokens": 2, "task_epochs": 1},
}


def few_on(path, tmp_path, families):
    """Execute a notebook on little data with small random models: by parameter, the family."""
    models = {}
    for name, family in families.items():
        models[name] = str(tmp_path / family)
        save_model(family, tmp_path / family)
    given = FEW[path.stem] | models | {"cache_dir": str(tmp_path / "cache")}
    return executed_at_smoke(path, tmp_path / "figures", **given)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "roberta"])
@pytest.mark.parametrize("path", NOTEBOOKS[:2], ids=lambda path: path.stem)
def test_encoders_of_other_families_go_through_every_cell(path, family, tmp_path):
    """BERT with WordPiece returns `token_type_ids`; RoBERTa has byte-level BPE."""
    assert len(few_on(path, tmp_path, {"model": family}).splitlines()) > 10


@pytest.mark.slow
def test_causal_models_from_folders_go_through_every_cell(tmp_path):
    families = {"neox": "gpt_neox", "neox_chat": "gpt_neox", "llama": "llama", "llama_chat": "llama"}
    assert len(few_on(NOTEBOOKS[2], tmp_path, families).splitlines()) > 10


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_figure_has_an_alternative_text(path):
    for cell in nbformat.read(path, as_version=4).cells:
        drawn = cell.cell_type == "code" and "study.save(" in cell.source
        assert drawn == (len(cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")) > 80)


class Reached(Exception):
    """Ends a cell at the call that a test looks at."""


def cell_on_files(path, cell_id, **given):
    """Execute a cell of notebook 1 with two local files that are called like known data sets."""
    (cell,) = [cell for cell in read(path).cells if cell.id == cell_id]
    tasks = ["allocine", "mini-infopinion"]
    own = dict(zip(tasks, ("own/allocine.csv", "own/mini-infopinion.csv"), strict=True))
    settings = MagicMock(dataset=own[tasks[0]], other_dataset=own[tasks[1]], tasks=own, data_seed=0)
    names = {"A": tasks[0], "B": tasks[1], "tasks": tasks, "settings": settings, "study": MagicMock()}
    exec(compile(cell.source, cell_id, "exec"), names | given)  # noqa: S102 - our own
    raise AssertionError(f"{cell_id}: the call was not reached")


each_first = pytest.mark.parametrize(
    "path",
    [NOTEBOOKS[0], NOTEBOOKS[0].parent / "solutions" / NOTEBOOKS[0].name],
    ids=["notebook", "solution"],
)


@each_first
def test_an_encoder_is_pretrained_on_the_texts_of_a_file_that_is_called_like_a_generated_data_set(
    path, monkeypatch
):
    def encoder_folder(_, texts, **__):
        raise Reached(sorted(texts))

    monkeypatch.setattr("lib.tiny.encoder_folder", encoder_folder)
    splits = {task: {"train": {"text": [f"of {task}"]}} for task in ("allocine", "mini-infopinion")}
    with pytest.raises(Reached) as reached:
        cell_on_files(path, "encoder", splits=splits)
    assert reached.value.args == (["of allocine", "of mini-infopinion"],)


@each_first
def test_the_artifact_of_a_file_is_not_that_of_the_generated_data_set_of_its_name(path, monkeypatch):
    def plant_artifact(_, dataset, *__, **___):
        raise Reached(dataset)

    monkeypatch.setattr("lib.texts.plant_artifact", plant_artifact)
    monkeypatch.setattr("lib.texts.smaller", MagicMock())
    cell_id = "artifact-lists" if path.parent.name == "solutions" else "artifact-texts"
    with pytest.raises(Reached, match=r"^own/mini-infopinion\.csv$"):
        cell_on_files(path, cell_id, corpora=MagicMock())


def test_a_file_that_is_called_allocine_does_not_count_as_allocine():
    def require(name, holds, _):
        raise Reached(name, holds)

    study = MagicMock(require=require)
    with pytest.raises(Reached) as reached:
        cell_on_files(NOTEBOOKS[0], "published-words", study=study)
    assert reached.value.args == ("texts_of_allocine", False)


def functions(path, *names):
    """Return the source of these functions, wherever the notebook defines them."""
    defined = [node for source in code(read(path)) for node in ast.parse(source).body]
    found = {node.name: ast.unparse(node) for node in defined if isinstance(node, ast.FunctionDef)}
    return "\n".join(found[name] for name in names)


@pytest.mark.parametrize("quieter", model_types.TRAININGS)
def test_a_claim_on_quantising_fails_if_it_fails_for_one_training(quieter):
    rng = np.random.default_rng(0)
    means = rng.gamma(1, size=400)
    kinds = {}
    for training in model_types.TRAININGS:
        scatter = 0.1 * rng.normal(size=(8, 400))
        for name, factor in ((training, 1), (f"{training} fp4", 0.5 if training == quieter else 1.01)):
            relevance = {"LRP": means + factor * scatter}
            kinds[name] = model_types.ModelType(name, training, 1, np.zeros((8, 1)), relevance)
    names = {
        "Crossed": Crossed,
        "decisive": claims.decisive,
        "factor_of": factor_of,
        "overall": model_types.measure(kinds, [10] * 40),
        "study": MagicMock(claims=claims.load_claims(2)),
        "TRAININGS": model_types.TRAININGS,
        "type_name": model_types.type_name,
    }
    exec(functions(NOTEBOOKS[1], "deciding", "quantised_over_plain", "measured_in"), names)  # noqa: S102 - our own
    verdicts = {
        claim: claims.judge(names["study"].claims[claim], interval, "").verdict
        for claim, interval in names["measured_in"]("fp4").items()
    }
    assert verdicts["noise_not_reduced_by_quantising"] == claims.NOT_REPRODUCED
    assert verdicts["signal_same_quantised"] == claims.REPRODUCED
    raised = {
        training: verdicts[f"noise_raised_by_quantising_{training.replace('-', '')}"]
        for training in model_types.TRAININGS
    }
    (other,) = set(raised) - {quieter}
    assert raised == {quieter: claims.NOT_REPRODUCED, other: claims.REPRODUCED}


def test_there_are_three_notebooks_and_each_is_committed_executed():
    assert [path.name[0] for path in NOTEBOOKS] == ["1", "2", "3"]
    assert {path.name for path in EXECUTED} == {path.name for path in NOTEBOOKS}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["-p", "sedes", "3"], "-p sedes 3: no such parameter"),
        (["--repeat", "2", "-p", "first_seed", "3"], "-p first_seed 3: not allowed with --repeat"),
        (["--profile", "huge"], "invalid choice: 'huge'"),
        (["--only", "9"], "invalid choice: 9"),
    ],
)
def test_the_command_refuses_what_it_does_not_know(arguments, line):
    command = [sys.executable, str(PROJECT_ROOT / "tools" / "execute.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert line in done.stderr.splitlines()[-1]


def test_values_on_the_command_line_are_read_as_python_writes_them():
    assert [
        execute._value(text) for text in ("3", "2e-4", "True", "nf4 fp4", "mini-allocine", "0 0.5 1")
    ] == [
        3,
        2e-4,
        True,
        "nf4 fp4",
        "mini-allocine",
        "0 0.5 1",
    ]
