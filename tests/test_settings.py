"""Every wrong parameter gives one clear line, before anything is computed."""

import papermill
import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from lib.models import ModelError
from lib.settings import PROJECT_ROOT, FinetunedVsFrozen, SettingsError
from lib.texts.tables import CorpusError

RIGHT = {
    name: details["default"]
    for name, details in papermill.inspect_notebook(
        str(PROJECT_ROOT / "notebooks" / "1_finetuned_vs_frozen.ipynb")
    ).items()
}
RIGHT = {name: eval(value, {"__builtins__": {}}) for name, value in RIGHT.items()}  # noqa: S307 - our own notebook


def settings(**changed: object) -> FinetunedVsFrozen:
    return FinetunedVsFrozen.from_namespace(RIGHT | changed)


def test_the_notebooks_own_defaults_are_right():
    assert settings().seeds_from_first(3) == [0, 1, 2]
    assert settings(artifact_rates="1 0 0.5").rates == [0.0, 0.5, 1.0]
    assert [settings(test_texts=count).test_texts for count in (0, 21)] == [0, 21]


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("learning_rate", "2e-4", "write 2.0e-4 without quotes"),
        ("learning_rate", 0.0, "greater than 0"),
        ("learning_rate", float("nan"), "finite"),
        ("learning_rate", -1e-3, "greater than 0"),
        ("dataset", False, "YAML reads yes, no, on and off"),
        ("dataset", "", "at least 1 character"),
        ("other_dataset", "mini-allocine", "must differ from dataset"),
        ("sedes", 3, "did you mean 'seeds'"),
        ("frobnicate", 1, "allowed: first_seed"),
        ("seeds", 1, "greater than or equal to 2"),
        ("seeds", True, "valid integer"),
        ("seeds", 2.5, "valid integer"),
        ("seeds", None, "valid integer"),
        ("compared_seeds", 400, "at most seeds = "),
        ("first_seed", -1, "greater than or equal to 0"),
        ("first_seed", 2**31, "less than 2147483648"),
        ("device", "tpu", "'auto', 'cpu' or 'cuda'"),
        ("engine", "spark", "'local' or 'ray'"),
        ("workers", 0, "greater than or equal to 1"),
        ("max_length", 100_000, "less than or equal to 512"),
        ("confidence", 95, "less than 1"),
        ("min_finished", 1.5, "less than or equal to 1"),
        ("compared_texts", 1, "greater than or equal to 2"),
        ("explained_texts", 1, "0 (all) or at least 2 are required"),
        ("further_explained", 1, "0 (all) or at least 2 are required"),
        ("test_texts", 1, "0 (all) or at least 21 are required"),
        ("test_texts", 20, "0 (all) or at least 21 are required"),
        ("test_texts", -1, "greater than or equal to 0"),
        ("further_texts", 12, "at least 13 texts are required"),  # batches of 4, the authors' schedule
        ("other_train_texts", 12, "at least 13 texts are required"),
        ("artifact_rates", "0 1 1.0", "'1.0' is unknown or named twice"),
        ("artifact_rates", "0 2", "numbers from 0 to 1"),
        ("artifact_rates", "", "at least one is required"),
        ("artifact_rates", "0,1", "numbers from 0 to 1"),
        ("cache_dir", 3, "Path"),
        ("precision", "half", "'auto', 'float32', 'tf32' or 'bfloat16'"),
        ("relevance_precision", "bfloat16", "'float32' or 'tf32'"),
        ("deterministic", "yes", "valid boolean"),
    ],
)
def test_a_wrong_parameter_is_one_clear_line(name, value, hint):
    with pytest.raises(SettingsError) as caught:
        settings(**{name: value})
    line = str(caught.value)
    assert "\n" not in line
    assert name in line
    assert hint in line


def test_every_number_of_training_texts_suffices_for_a_step():
    with pytest.raises(SettingsError, match=r"^further_texts = 500: .*batch_size = 32 .*at least 993 texts"):
        settings(batch_size=32, further_texts=500)
    assert settings(further_texts=13).further_texts == 13
    assert settings(batch_size=32, further_texts=0, other_train_texts=0).further_texts == 0  # not known yet


def test_precisions_are_those_of_the_device():
    assert settings(device="cpu").training_precision == "float32"
    assert settings(device="cpu", precision="bfloat16").reading["precision"] == "bfloat16"
    for name in ("precision", "relevance_precision"):
        with pytest.raises(SettingsError, match=f"^{name} = 'tf32': only CUDA devices have it"):
            settings(device="cpu", **{name: "tf32"})


def test_every_wrong_parameter_is_told_at_once():
    with pytest.raises(SettingsError) as caught:
        settings(seeds=0, workers=0)
    assert [line.split()[0] for line in str(caught.value).splitlines()] == ["workers", "seeds"]


def test_a_missing_parameter_is_named():
    with pytest.raises(SettingsError, match="epochs: the parameter is missing"):
        FinetunedVsFrozen.from_namespace({name: value for name, value in RIGHT.items() if name != "epochs"})


def test_what_a_notebook_defines_later_is_not_a_parameter():
    namespace = RIGHT | {"FinetunedVsFrozen": FinetunedVsFrozen}
    first = FinetunedVsFrozen.from_namespace(namespace)
    later = namespace | {"count": 3, "title": "words", "rows": {}}
    assert FinetunedVsFrozen.from_namespace(later) == first
    with pytest.raises(SettingsError, match="sedes = 3: no such parameter"):
        FinetunedVsFrozen.from_namespace(RIGHT | {"sedes": 3, "FinetunedVsFrozen": FinetunedVsFrozen})


def test_relative_paths_start_at_the_projects_root_and_imports_are_no_parameters(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    made = FinetunedVsFrozen.from_namespace(RIGHT | {"np": pytest, "In": [1], "_dh": ["x"], "f": settings})
    assert made.cache_dir == PROJECT_ROOT / ".cache" / "demo"
    assert settings(cache_dir="/elsewhere").cache_dir.as_posix() == "/elsewhere"


@pytest.mark.parametrize("kind", [SettingsError, CorpusError, ModelError])
def test_in_a_notebook_a_wrong_input_is_its_message_alone(kind, capsys):
    shell = InteractiveShell(user_ns={"kind": kind}, config=Config({"HistoryManager": {"enabled": False}}))
    shell.run_cell("def read():\n    raise kind('seeds = 0: no')\nread()")
    assert capsys.readouterr().out == f"{kind.__name__}: seeds = 0: no\n"


def test_a_task_has_the_name_of_its_file(tmp_path):
    paths = [tmp_path / folder / "texts.csv" for folder in ("a", "b")]
    for path in paths:
        path.parent.mkdir()
        path.touch()
    first, second = map(str, paths)
    of_file = settings(dataset=first)
    assert of_file.tasks == {"texts": first, RIGHT["other_dataset"]: RIGHT["other_dataset"]}
    assert list(of_file.heads) == list(of_file.fine_tuning["authors"]) == list(of_file.tasks)
    assert settings(dataset=first, other_dataset=second).tasks == {first: first, second: second}
