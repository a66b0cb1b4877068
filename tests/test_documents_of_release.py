"""Card, bills of materials and notices are valid, say what the record says, and hide no override."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import released
from basewise.core.registry import part, parts
from basewise.core.release import Release
from basewise.steps.released import base_of

OVERRIDE = {
    "check": "score",
    "reason": "it is read by people",
    "by": "A. Person",
    "when": "2026-11-25T00:00:00+00:00",
}


@pytest.fixture(scope="module")
def plain() -> Release:
    return Release.load(released.released())


@pytest.fixture(params=["plain", "base", "overridden"])
def record(request: pytest.FixtureRequest, plain: Release) -> Release:
    """The record of a release of words, one with a base beside it, and one that was let through."""
    base = {
        "key": "tiny-base", "digest": "ab" * 32, "licence": "Apache-2.0", "family": "encoder", "parameters": 25920, "source": "folder",
        "training_data": "nothing", "inside": "",
    }  # fmt: skip
    nodes = [
        {"name": "data:tickets", "what": "data", "licence": "CC-BY-4.0", "relation": "", "signed_by": ""},
        {
            "name": "base:tiny-base",
            "what": "base",
            "licence": "Apache-2.0",
            "relation": "",
            "signed_by": "A. Person",
        },
        {"name": "release", "what": "adapter", "licence": "", "relation": "adapter", "signed_by": ""},
    ]
    licence = {**plain.licence, "expression": "Apache-2.0 AND CC-BY-4.0", "nodes": nodes}
    if request.param == "base":
        return replace(plain, base=base, licence=licence, method="probe", threshold=0.7).identified()
    if request.param == "overridden":
        failed = [
            {**line, "verdict": "fail", "override": OVERRIDE} if line["check"] == "score" else line
            for line in plain.gate
        ]
        return replace(plain, gate=failed, overrides=[OVERRIDE]).identified()
    return plain


def test_the_card_has_valid_metadata_and_the_score(record: Release) -> None:
    from huggingface_hub import ModelCard

    card = ModelCard(part("documents", "card").text(record))
    assert card.data.library_name == "basewise"
    assert card.data.pipeline_tag == "text-classification"
    result = card.data.eval_results[0]
    assert result.metric_value == round(record.score["estimate"], 4)
    assert card.data.model_name == record.name
    assert card.data.base_model is None, "no id of the hub is known"
    if record.base:
        assert f"Base {record.base['key']} " in card.text
        hub = "sentence-transformers/all-MiniLM-L6-v2"
        known = ModelCard(part("documents", "card").text(replace(record, base={**record.base, "hub": hub})))
        assert known.data.base_model == [hub]
    if card.data.license == "other":
        assert card.data.license_link == "LICENSE"
    assert f"{record.score['low']:.3f}" in card.text
    for looks, words in ((1, "1 time."), (2, "2 times.")):
        text = part("documents", "card").text(replace(record, score={**record.score, "looks": looks}))
        assert f"The locked test rows were looked at {words}" in text


def test_a_base_of_random_weights_is_no_ones_on_the_hub(tmp_path: Path) -> None:
    base = {"key": "minilm-l6", "digest": "ab" * 32, "hub": "sentence-transformers/all-MiniLM-L6-v2"}
    for seed, hub in ((None, base["hub"]), (0, "")):
        found = base_of({"base": {**base, "random_seed": seed}}, tmp_path)
        assert found is not None and found["hub"] == hub


def test_the_bill_of_materials_is_cyclonedx_1_7(record: Release) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = part("documents", "cyclonedx").text(record)
    assert JsonStrictValidator(SchemaVersion.V1_7).validate_str(text) is None
    metrics = json.loads(text)["metadata"]["component"]["modelCard"]["quantitativeAnalysis"][
        "performanceMetrics"
    ]
    assert metrics[0]["confidenceInterval"] == {
        "lowerBound": str(record.score["low"]),
        "upperBound": str(record.score["high"]),
    }
    assert {p["bom-ref"] for p in json.loads(text)["components"]} >= {
        n["name"] for n in record.licence["nodes"][:-1]
    }


def test_a_broken_bill_of_materials_would_be_seen(plain: Release) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = part("documents", "cyclonedx").text(plain).replace('"machine-learning-model"', '"model"')
    assert JsonStrictValidator(SchemaVersion.V1_7).validate_str(text) is not None


def test_spdx_hangs_together_and_has_what_an_ai_package_must(record: Release) -> None:
    value = json.loads(part("documents", "spdx").text(record))
    graph = value["@graph"]
    ids = {e["spdxId"] for e in graph if "spdxId" in e}
    assert len(ids) == sum("spdxId" in e for e in graph)
    package = next(e for e in graph if e["type"] == "ai_AIPackage")
    must = (
        "releaseTime",
        "suppliedBy",
        "software_packageVersion",
        "software_downloadLocation",
        "software_primaryPurpose",
    )
    assert all(package[key] for key in must)
    for link in (e for e in graph if e["type"] == "Relationship"):
        assert link["from"] in ids and set(link["to"]) <= ids
    document = next(e for e in graph if e["type"] == "SpdxDocument")
    assert set(document["element"]) | {document["spdxId"]} == ids


def test_spdx_is_read_by_the_bindings_of_its_model(record: Release, tmp_path: Path) -> None:
    bindings = pytest.importorskip("spdx_python_model").v3_0_1
    path = tmp_path / "spdx.json"
    path.write_text(part("documents", "spdx").text(record), "utf-8")
    objects = bindings.SHACLObjectSet()
    with path.open("rb") as file:
        bindings.JSONLDDeserializer().read(file, objects)
    (package,) = objects.foreach_type("ai_AIPackage")
    assert package.name == record.name
    assert not objects.missing_ids


def test_a_name_with_blanks_is_no_blank_in_an_address(plain: Release) -> None:
    nodes = [{**n, "name": n["name"].replace("tickets", "my tickets")} for n in plain.licence["nodes"]]
    value = json.loads(
        part("documents", "spdx").text(replace(plain, licence={**plain.licence, "nodes": nodes}))
    )
    ids = [e["spdxId"] for e in value["@graph"] if "spdxId" in e]
    assert any("my%20tickets" in i for i in ids) and not any(" " in i for i in ids)
    links = [e for e in value["@graph"] if e["type"] == "Relationship"]
    assert {to for link in links for to in link["to"]} <= set(ids)


def test_a_card_without_a_score_and_with_a_slice_that_breaks_tables(plain: Release) -> None:
    score = {**plain.score, "estimate": None, "low": None, "high": None, "n": None}
    slices = {"name": "slices: contains 'a|b'", "slice": "", "estimate": 0.5, "low": 0.4, "high": 0.6, "n": 9}
    said = part("documents", "card").text(replace(plain, score=score, measures=[slices]))
    assert "model-index" not in said and "contains 'a\\|b'" in said


def test_an_override_is_in_every_document(record: Release) -> None:
    for key in ("card", "cyclonedx", "spdx"):
        assert (OVERRIDE["reason"] in part("documents", key).text(record)) == bool(record.overrides), key


def test_documents_have_a_file_each_and_no_user_text(record: Release) -> None:
    rows = (released.run_folder().parent / "tickets.csv").read_text("utf-8").splitlines()[1:20]
    texts = [row.split(",")[0] for row in rows]
    names = [module.FILE for module in parts("documents").values()]
    assert len(set(names)) == len(names)
    for module in parts("documents").values():
        said = module.text(record) or ""
        assert not any(text in said for text in texts)


def test_training_content_is_summed_up_only_where_something_was_trained(plain: Release) -> None:
    summary = part("documents", "training_summary")
    assert summary.text(plain) is None
    corpora = [{"name": "books", "licence": "CC0-1.0", "documents": 12, "sha256": "cd" * 32}]
    said = summary.text(replace(plain, training={"tokens": 1000, "corpora": corpora}))
    assert "| books | CC0-1.0 | 12 |" in said and "to be filled in" in said
