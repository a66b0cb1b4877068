"""Every export gives the golden answers in its own runtime, or is not let out."""

from __future__ import annotations

import inspect
import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import basewise as bw
import released
import tiny
from basewise.core.cells import join_inputs
from basewise.core.errors import InputError, PredictorChanged, ReleaseChanged, RunError, UnknownName
from basewise.core.registry import keys, part
from basewise.engine.onnx_answer import Answers, _of_line
from basewise.steps.export import export
from basewise.steps.predict import GOLDEN
from basewise.steps.release import release
from basewise.web.predict_routes import answers_of

TEXTS = ["invoice charge refund", "Parcel, courier; van?", "screen crash " * 60, "", "äöü ☃ 12,5 %"]


@pytest.mark.parametrize("key", keys("exporters"))
def test_an_exporter_keeps_its_contract(key: str) -> None:
    module = part("exporters", key)
    assert list(inspect.signature(module.write).parameters) == ["exported", "folder"]
    assert list(inspect.signature(module.answers).parameters) == ["folder", "texts"]
    assert 0 < module.BOUND <= 0.02 and isinstance(module.METHODS, tuple)


@pytest.fixture(scope="module")
def onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The probe's release as ONNX."""
    to = tmp_path_factory.mktemp("export") / "onnx"
    export(released.released("probe"), "onnx", to)
    return to


@pytest.mark.slow
def test_onnx_answers_like_the_release(onnx: Path) -> None:
    ours = bw.load(released.released("probe")).predict_proba(TEXTS)
    theirs = part("exporters", "onnx").answers(onnx, TEXTS)
    assert np.abs(ours - theirs).max() <= 0.02
    one_by_one = np.concatenate([part("exporters", "onnx").answers(onnx, [t]) for t in TEXTS])
    # padding and batches change nothing
    assert np.abs(one_by_one - theirs).max() < 1e-5


@pytest.mark.slow
def test_onnx_pins_what_rivals_lose(onnx: Path) -> None:
    pins = json.loads((onnx / "basewise.json").read_text("utf-8"))
    record = bw.load(released.released("probe")).record
    assert pins["classes"] == record["classes"]
    assert (
        pins["most_tokens"] == 64
        and pins["padding"] == "right"
        and pins["special_tokens"] == ["[CLS]", "[SEP]"]
    )
    assert "mean over real tokens" in pins["pooling"]
    assert pins["golden"]["texts"] == list(GOLDEN)


@pytest.mark.parametrize("least", [None, 0.0, 0.1, 0.3, 0.9])
@pytest.mark.slow
def test_the_sets_of_onnx_are_those_of_the_service(
    onnx: Path, least: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = Answers(onnx)
    classes = answers.pins["classes"] = ["b", "a", "d", "c"]
    answers.pins |= {"least_probability": least, "threshold": 0.5}
    rows = np.random.default_rng(0).dirichlet(np.ones(len(classes)), 20)
    # ties; nothing reaches 0.9
    rows[0], rows[1] = 0.25, [0.1, 0.4, 0.4, 0.1]
    monkeypatch.setattr(answers, "probabilities", lambda _: rows)
    about = {"classes": classes, "threshold": 0.5, "conformal": None if least is None else {"least": least}}
    served = answers_of(rows, about, None, "r")
    found = answers([""] * len(rows))
    for key in ("label", "abstained", "set"):
        assert [line[key] for line in found] == [line[key] for line in served], key


def test_rows_of_several_columns_are_joined_as_in_training(
    onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = Answers(onnx)
    monkeypatch.setitem(answers.pins, "inputs", ["subject", "body"])
    for row in (
        {"subject": "Hi", "body": "a\nb"},
        {"body": 3.0, "subject": None},
        {"subject": True, "body": 2.5},
    ):
        assert answers.text_of({**row, "more": 1}) == join_inputs(row, ("subject", "body"))
    for row in (
        "Hi",
        {"subject": "Hi"},
        {"subject": "Hi", "body": []},
        {"subject": "Hi", "body": float("nan")},
    ):
        with pytest.raises(ValueError, match=r"subject|expected"):
            answers.text_of(row)
    assert _of_line(answers, '{"subject": "Hi", "body": "x"}')["label"] in answers.pins["classes"]
    assert "each row is" in _of_line(answers, "Hi")["error"] + _of_line(answers, '["Hi"]')["error"]


@pytest.mark.slow
def test_onnx_runs_without_basewise_and_torch(onnx: Path) -> None:
    code = (
        "import runpy, sys; sys.argv = ['answer.py']\n"
        "class No:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'basewise', 'transformers'): raise ImportError(name)\n"
        f"sys.meta_path.insert(0, No()); runpy.run_path({str(onnx / 'answer.py')!r}, run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=b"invoice charge\n\xff\xe9 screen\nparcel\n",
        capture_output=True,
        check=True,
        timeout=300,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 3, "a line that is no UTF-8 is answered and costs no other"
    assert [lines[i]["label"] for i in (0, 2)] == ["billing", "delivery"]


@pytest.mark.parametrize("change", ["label order", "cut", "end tokens", "padding"])
@pytest.mark.slow
def test_an_export_that_lost_a_pin_is_seen(onnx: Path, change: str, tmp_path: Path) -> None:
    folder = released.copy_of(onnx, tmp_path / "broken")
    pins = json.loads((folder / "basewise.json").read_text("utf-8"))
    golden = pins["golden"]
    golden["probabilities"] = part("exporters", "onnx").answers(folder, golden["texts"]).tolist()
    if change == "label order":
        golden["probabilities"] = [row[::-1] for row in golden["probabilities"]]
    elif change == "cut":
        pins["most_tokens"] = 3
    elif change == "end tokens":
        pins["special"] = False
    else:
        pins["pad"], golden["probabilities"] = 7, [[1.0, 0.0]] * len(golden["texts"])
    (folder / "basewise.json").write_text(json.dumps(pins), "utf-8")
    from basewise.steps.export import replay

    tight = type("Tight", (), {"BOUND": 1e-4, "answers": staticmethod(part("exporters", "onnx").answers)})
    with pytest.raises(PredictorChanged, match="moved by"):
        replay(tight, folder, golden)


@pytest.mark.slow
def test_an_export_whose_answers_moved_is_not_let_out(
    onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = part("exporters", "onnx")
    honest = module.answers
    # what was written once is written again as it is: tracing the network takes most of an export
    monkeypatch.setattr(module, "write", lambda _, folder: shutil.copytree(onnx, folder, dirs_exist_ok=True))
    monkeypatch.setattr(module, "answers", lambda folder, texts: honest(folder, texts)[:, ::-1])
    with pytest.raises(PredictorChanged, match="nothing was kept"):
        export(released.released("probe"), "onnx", tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.slow
def test_tuned_networks_from_adapt_to_onnx_and_to_a_plain_folder(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`adapt`, `release` and `export` one after the other; the words that need no base know nothing here."""
    tiny.quick(monkeypatch)
    tuned = part("methods", method)
    monkeypatch.setattr(tuned, "RECIPE", replace(tuned.RECIPE, least_steps=60))
    monkeypatch.setattr(part("methods", "words"), "fit", part("methods", "majority").fit)
    weak = dict.fromkeys(("score", "calibration", "abstention", "slices"), "the base is tiny")
    made = tmp_path / "release"
    release(
        released.run_folder(method),
        to=made,
        policy=released.policy_file(),
        options=released.signed_for(override=weak),
    )
    ours = bw.load(made)
    assert ours.record["method"] == method
    for form in ("onnx", "folder"):
        answered = tiny.command("export", made, tmp_path / form, "--to", form)
        assert answered.code == 0 and "golden answers moved by at most" in answered.out, answered
        theirs = part("exporters", form).answers(tmp_path / form, TEXTS)
        assert np.abs(ours.predict_proba(TEXTS) - theirs).max() < 1e-4


@pytest.mark.slow
def test_container_serves_over_http_and_refuses_what_is_no_text(tmp_path: Path) -> None:
    import urllib.error
    import urllib.request

    to = tmp_path / "image"
    export(released.released("probe"), "container", to)
    said = (to / "Dockerfile").read_text("utf-8")
    assert "USER 10001" in said and "ENTRYPOINT" in said
    copied = {name for line in said.splitlines() if line.startswith("COPY") for name in line.split()[1:-1]}
    assert all((to / name).is_file() for name in copied)
    assert all("==" in line for line in (to / "requirements.txt").read_text("utf-8").splitlines())
    with subprocess.Popen(
        [sys.executable, str(to / "answer.py"), "--port", "0"], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            for body in (
                b"",
                b"[]",
                b"{}",
                b'{"texts": "a"}',
                b'{"texts": [1]}',
                b'{"rows": ["a"]}',
                b'{"rows": [{"text": []}]}',
                b'{"texts": ["\\ud800"]}',
                b"\xff",
                b"[" * 50_000,
                b'{"texts": ' + b"[" * 50_000,
            ):
                with pytest.raises(urllib.error.HTTPError) as error:
                    urllib.request.urlopen(urllib.request.Request(f"{address}/predict", body), timeout=60)
                assert error.value.code == 400
                error.value.close()
            with urllib.request.urlopen(
                urllib.request.Request(f"{address}/predict", b'{"texts": ["a\\u0000b", ""]}'), timeout=60
            ) as reply:
                assert len(json.load(reply)["answers"]) == 2
            with urllib.request.urlopen(f"{address}/health", timeout=60) as reply:
                assert (
                    json.load(reply)["release"] == json.loads((to / "basewise.json").read_text())["release"]
                )
        finally:
            process.kill()


SLOW_SERVER = """
import time
from basewise.engine.onnx_answer import serve

class Slow:
    pins = {"release": "r"}

    def __call__(self, texts):
        print("asked", flush=True)
        time.sleep(0.5)
        return texts

serve(Slow(), "127.0.0.1", 0)
"""


def test_a_container_that_is_stopped_answers_what_it_was_asked_and_ends() -> None:
    command = [sys.executable, "-c", SLOW_SERVER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process, httpx.Client() as client:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(client.post, f"{address}/predict", json={"texts": ["a"]}, timeout=60)
            assert process.stdout.readline() == "asked\n"
            process.terminate()
            assert asked.result().json()["answers"] == ["a"]
        assert process.wait(60) == 0


def test_mlflow_loads_what_was_written(tmp_path: Path) -> None:
    pytest.importorskip("mlflow.pyfunc")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "track").as_uri())
        assert export(released.released(), "mlflow", tmp_path / "out") <= 1e-6
    assert (tmp_path / "out" / "MLmodel").is_file()


@pytest.mark.slow
def test_mlflow_answers_for_two_columns_of_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the library: it keeps the data and asks the loader, as python_function models do."""
    import importlib
    import importlib.machinery
    from types import ModuleType

    from basewise.steps.adapt import adapt
    from basewise.steps.choose import ChooseOptions

    flow, pyfunc = ModuleType("mlflow"), ModuleType("mlflow.pyfunc")
    flow.__spec__ = importlib.machinery.ModuleSpec("mlflow", None)

    def save_model(path: str, loader_module: str, data_path: str, **_more: object) -> None:
        released.copy_of(Path(data_path), Path(path) / "data")
        (Path(path) / "MLmodel").write_text(loader_module)

    def load_model(path: str) -> Any:
        loader = importlib.import_module((Path(path) / "MLmodel").read_text())
        return loader._load_pyfunc(str(Path(path) / "data"))

    pyfunc.save_model, pyfunc.load_model = save_model, load_model  # type: ignore[attr-defined]
    flow.pyfunc = pyfunc  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow", flow)
    monkeypatch.setitem(sys.modules, "mlflow.pyfunc", pyfunc)
    rows = [
        {
            "subject": " ".join(r["text"].split()[:4]),
            "body": " ".join(r["text"].split()[4:]),
            "queue": r["queue"],
        }
        for r in tiny.rows(120)
    ]
    table = tiny.write_csv(tmp_path / "two.csv", rows)
    options = ChooseOptions(curves=False, inputs=("subject", "body"))
    adapt(table, method="words", base=None, target="queue", to=tmp_path / "run", options=options)
    weak = dict.fromkeys(keys("checks"), "the table is tiny")
    del weak["licence"]
    made = tmp_path / "release"
    release(tmp_path / "run", to=made, options=released.signed_for(override=weak))
    assert export(made, "mlflow", tmp_path / "out") <= 1e-6
    import pandas as pd

    answered = load_model(str(tmp_path / "out")).predict(pd.DataFrame(rows)[["body", "subject"]].head(20))
    wanted = bw.load(made).predict_proba(rows[:20])
    assert np.abs(answered[[f"p_{c}" for c in bw.load(made).classes]].to_numpy() - wanted).max() < 1e-12


@pytest.mark.slow
def test_mlflow_model_takes_texts_and_dicts_as_well_as_a_table() -> None:
    import pandas as pd

    from basewise.steps.mlflow_model import ReleaseModel

    predictor = bw.load(released.released())
    model, column = ReleaseModel(predictor), predictor.inputs[0]
    table = model.predict(pd.DataFrame({column: TEXTS}))
    for same in (TEXTS, np.array(TEXTS), [{column: text} for text in TEXTS], {column: TEXTS}):
        assert model.predict(same).equals(table)


def test_what_cannot_be_exported_says_what_can(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot carry the method words"):
        export(released.released(), "onnx", tmp_path / "o")
    with pytest.raises(InputError, match="use container, mlflow, onnx"):
        export(released.released("probe"), "folder", tmp_path / "o")
    with pytest.raises(UnknownName, match="onnx"):
        export(released.released("probe"), "onx", tmp_path / "o")
    with pytest.raises(RunError, match="exists already"):
        export(released.released("probe"), "onnx", tmp_path)
    touched = released.copy_of(released.released("probe"), tmp_path / "r")
    (touched / "x").write_text("")
    with pytest.raises(ReleaseChanged):
        export(touched, "onnx", tmp_path / "o")
    tiny.refused(tiny.command("export", released.released(), tmp_path / "o"), "cannot carry")
