"""Our model class inside lm-evaluation-harness: registered, and item by item what its own `hf` model gives.

Tasks are local: YAML files over Parquet files made here, one a kind of request. Skipped only where the harness is not installed
(the extra `bench`).
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("lm_eval", reason="the extra bench is not installed")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
SETS = ("sst2", "subj", "trec", "tweet_emotion", "tweet_irony", "piqa", "blimp", "cloze", "wiki", "sort")
HEAD = """task: local_{name}
dataset_path: parquet
dataset_kwargs:
  data_files:
    test: {path}
test_split: test
num_fewshot: {shots}
fewshot_split: test
"""
CHOICE = """output_type: multiple_choice
doc_to_text: "{{{{context}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
metric_list:
  - metric: acc
  - metric: acc_norm
"""
ROLLING = """output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{context}}}}"
metric_list:
  - metric: word_perplexity
  - metric: bits_per_byte
"""
GENERATE = """output_type: generate_until
doc_to_text: "{{{{context}}}}"
doc_to_target: "{{{{target}}}}"
generation_kwargs:
  until: ["\\n"]
  max_gen_toks: 12
  do_sample: false
metric_list:
  - metric: exact_match
"""


def write_tasks(folder: Path, sets: Path | None, most: int = 12) -> list[str]:
    """Ten YAML tasks over small files; the names of those that were written."""
    import tiny_sets
    from basewise.core.suite import CHOICE as CHOICES
    from basewise.core.suite import GENERATE as GENERATES
    from basewise.core.suite import Data
    from basewise.steps.bench_items import find_tasks

    data = Data(sets or tiny_sets.write(folder / "sets"))
    wanted = [f"classify/{name}" for name in SETS[:5]]
    wanted += ["piqa", "blimp/wh_island", "bbh/navigate", "wikitext", "bbh/word_sorting"]
    made = []
    for name, task in zip(SETS, find_tasks([",".join(wanted)], data), strict=True):
        rows = [
            {
                "context": item.context,
                "choices": list(item.choices),
                "answer": item.answer,
                "target": item.target,
            }
            for item in task.items[:most]
        ]
        kind = CHOICE if task.kind == CHOICES else GENERATE if task.kind == GENERATES else ROLLING
        if task.kind == CHOICES:
            for row in rows:
                row["choices"] = [choice.strip() for choice in row["choices"]]
        _write(
            folder,
            name,
            rows,
            HEAD.format(name=name, path=folder / f"{name}.parquet", shots=2 * (name in SETS[:5]))
            + kind.format(),
        )
        made.append(f"local_{name}")
    return made


def _write(folder: Path, name: str, rows: list[dict[str, Any]], text: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")
    (folder / f"{name}.yaml").write_text(text, encoding="utf-8")


def evaluated(model: Any, names: list[str], folder: Path) -> dict[str, Any]:
    """The harness' results with their samples."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    found: dict[str, Any] = lm_eval.simple_evaluate(
        model=model,
        tasks=names,
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        log_samples=True,
        bootstrap_iters=0,
        random_seed=0,
    )
    return found


def equal(ours: dict[str, Any], theirs: dict[str, Any], names: list[str], tolerance: float) -> None:
    """The same answer for each item, and the same metrics."""
    for name in names:
        for one, other in zip(ours["samples"][name], theirs["samples"][name], strict=True):
            assert one["arguments"] == other["arguments"]
            for a, b in zip(one["resps"], other["resps"], strict=True):
                a, b = (x[0] if isinstance(x, list) else x for x in (a, b))
                if isinstance(a, str):
                    assert a == b, name
                    continue
                left, right = (np.asarray(x, float).ravel() for x in (a, b))
                assert abs(left[0] - right[0]) <= tolerance, (name, left, right)
                assert left[1:].tolist() == right[1:].tolist(), "greedy or not"
        for metric, value in theirs["results"][name].items():
            if isinstance(value, float):
                assert ours["results"][name][metric] == pytest.approx(value, rel=1e-3), (name, metric)


def both(folder: Path, base: str, hf: str, names: list[str]) -> None:
    """Ours in fp32 against theirs in float64: in fp32 theirs is off by more than the tolerance on a sum of thirty tokens."""
    from lm_eval.models.huggingface import HFLM

    from basewise.steps.harness import Harness

    ours = evaluated(Harness(base=base, precision="fp32"), names, folder)
    theirs = evaluated(HFLM(pretrained=hf, dtype="float64", device="cpu", batch_size=1), names, folder)
    equal(ours, theirs, names, 1e-4)


def test_the_entry_point_names_the_class() -> None:
    points = {p.name: p for p in importlib.metadata.entry_points(group="lm_eval.models")}
    assert points["basewise"].value == "basewise.steps.harness:Harness"
    from lm_eval.api.registry import get_model

    from basewise.steps.harness import Harness

    assert points["basewise"].load() is Harness is get_model("basewise")


def test_equal_to_hf_on_a_tiny_decoder(tmp_path: Path) -> None:
    import tiny_decoders

    tiny_decoders.decoder(tmp_path / "base", "llama", max_position_embeddings=512)
    names = write_tasks(tmp_path, None)
    both(tmp_path, str(tmp_path / "base"), str(tmp_path / "base"), names)


@pytest.mark.real
def test_equal_to_hf_on_ten_tasks_of_the_public_sets(sets: Path, tmp_path: Path) -> None:
    from basewise.steps.bases import find, pull

    names = write_tasks(tmp_path, sets, most=2)
    assert len(names) == 10
    folder = str(pull(find("smollm2-135m")).folder)
    # an article takes the hf model minutes
    short = [name for name in names if name != "local_wiki"]
    both(tmp_path, "smollm2-135m", folder, short)


def test_settings_that_are_unknown_are_refused() -> None:
    from basewise.core.errors import InputError
    from basewise.steps.harness import Harness, sampling

    with pytest.raises(InputError, match="repetition_penalty"):
        sampling({"until": ["\n"], "repetition_penalty": 1.3})
    with pytest.raises(InputError, match="no base"):
        Harness()


def test_rolling_requests_of_both_kinds(tmp_path: Path) -> None:
    """Up to 0.4 a text comes alone and so does its number; from 0.5 on it stands behind an empty context, and a pair is expected."""
    from types import SimpleNamespace

    from tests import tiny_decoders

    from basewise.steps.harness import Harness

    tiny_decoders.decoder(tmp_path, "llama")
    model = Harness(base=str(tmp_path), precision="fp32")
    texts = ["the film was good", "no"]
    alone = model.loglikelihood_rolling([SimpleNamespace(args=(text,)) for text in texts])
    behind = model.loglikelihood_rolling([SimpleNamespace(args=("", text)) for text in texts])
    assert alone == model.causal.rolling(texts).tolist() and min(alone) < max(alone) < 0
    assert behind == [(value, False) for value in alone]


def test_what_is_asked_again_is_drawn_anew(tmp_path: Path) -> None:
    """Tasks with `repeats` count how many of several draws are right."""
    from types import SimpleNamespace

    from tests import tiny_decoders

    from basewise.steps.harness import Harness

    tiny_decoders.decoder(tmp_path, "llama")
    model = Harness(base=str(tmp_path), precision="fp32")

    def told(**settings: object) -> list[str]:
        one = SimpleNamespace(args=("the film", {"until": [], "max_gen_toks": 8, **settings}))
        return model.generate_until([one] * 3)

    drawn = told(do_sample=True, temperature=1.0)
    assert len(set(drawn)) == 3 and told(do_sample=True, temperature=1.0) == drawn
    assert told(temperature=1.0) == drawn, "a temperature alone says that answers are drawn"
    greedy = told()
    assert len(set(greedy)) == 1
    assert told(do_sample=False, temperature=0.7) == told(do_sample=True, temperature=0) == greedy


def test_chat_templates_are_the_hf_models(tmp_path: Path) -> None:
    from lm_eval.models.huggingface import HFLM
    from tests import tiny_decoders

    from basewise.steps.harness import Harness

    tiny_decoders.decoder(tmp_path, "llama")
    ours = Harness(base=str(tmp_path), precision="fp32")
    theirs = HFLM(pretrained=str(tmp_path), dtype="float32", device="cpu", batch_size=1)
    said = [
        {"role": r, "content": c}
        for r, c in (("system", "be brief"), ("user", "good?"), ("assistant", "yes"))
    ]
    no_system = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    for template in (tiny_decoders.CHAT, no_system + tiny_decoders.CHAT):
        ours.causal.tokenizer.chat_template = theirs.tokenizer.chat_template = template
        assert ours.chat_template(True) == theirs.chat_template(True) == template
        for messages, answered in ((said[:2], True), (said, False)):
            own = ours.apply_chat_template(messages, add_generation_prompt=answered)
            assert own == theirs.apply_chat_template(messages, add_generation_prompt=answered)


def test_their_command_with_our_model(tmp_path: Path) -> None:
    """`python -m basewise.steps.harness` is their command line; of releases that read entry points, `lm_eval` itself."""
    import json
    import subprocess
    import sys

    import tiny_decoders

    tiny_decoders.decoder(tmp_path / "base", "llama", max_position_embeddings=512)
    write_tasks(tmp_path, None)
    words = [
        "run",
        "--model",
        "basewise",
        "--model_args",
        f"base={tmp_path / 'base'},precision=fp32",
        "--tasks",
        "local_piqa",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "basewise.steps.harness", *words, "--include_path", str(tmp_path), "--output_path", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    path = next((tmp_path / "out").rglob("results*.json"))
    assert "acc,none" in json.loads(path.read_text())["results"]["local_piqa"]
