"""The licence graph: parent and child, use and verdict; obligations go down, unknown is no, nobody's name is no signature."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from basewise.core.errors import InputError
from basewise.core.gate import FAIL, PASS, WARN, Licensed
from basewise.stats.licences import (
    ATTRIBUTION,
    DERIVED,
    NO_COMMERCIAL,
    NOTICE,
    TABLE,
    Verdict,
    canonical,
    decide,
)


def made(
    base: str = "", data: str = "own", relation: str = "finetune", teacher: str = "", **how: object
) -> Verdict:
    """The verdict on a model made from a base, rows and perhaps a teacher; "-" leaves a parent out."""
    nodes = []
    for name, licence in (("base", base), ("data", data), ("teacher", teacher)):
        if licence not in ("-", "") or (name == "base" and licence == ""):
            nodes.append(
                Licensed(name=name, what=name, licence=licence, signed_by="A" if licence == "own" else "")
            )
    model = Licensed(
        name="model", what="adapter", licence="", parents=tuple(n.name for n in nodes), relation=relation
    )
    return decide((*nodes, model), "model", **how)  # type: ignore[arg-type]


CASES = [
    # base, data, relation, teacher, use, verdict, a word of the reasons
    ("Apache-2.0", "own", "finetune", "", "commercial", PASS, ""),
    ("MIT", "own", "adapter", "", "commercial", PASS, ""),
    ("bsd-3-clause", "CC0-1.0", "merge", "", "commercial", PASS, ""),
    ("Apache-2.0", "CC-BY-4.0", "adapter", "", "commercial", PASS, ""),
    ("-", "own", "", "", "commercial", PASS, ""),
    ("-", "CC-BY-4.0", "", "", "commercial", PASS, ""),
    ("mit", "odc-by", "quantise", "", "commercial", PASS, ""),
    ("", "own", "adapter", "", "commercial", FAIL, "base is not known"),
    ("other", "own", "adapter", "", "commercial", FAIL, "base is not known"),
    ("unheard-of-1.0", "own", "adapter", "", "commercial", FAIL, "base is not known"),
    ("Apache-2.0", "unknown", "adapter", "", "commercial", FAIL, "data is not known"),
    ("Apache-2.0", "unknown", "adapter", "", "research", FAIL, "data is not known"),
    ("cc-by-nc-4.0", "own", "finetune", "", "commercial", FAIL, "denied by base"),
    ("cc-by-nc-4.0", "own", "finetune", "", "research", PASS, ""),
    ("Apache-2.0", "CC-BY-NC-4.0", "adapter", "", "commercial", FAIL, "denied by data"),
    ("Apache-2.0", "CC-BY-NC-4.0", "adapter", "", "research", PASS, ""),
    ("research-only", "own", "adapter", "", "commercial", FAIL, "denied by base"),
    ("research-only", "own", "adapter", "", "research", PASS, ""),
    ("CC-BY-ND-4.0", "own", "finetune", "", "commercial", FAIL, "may not be changed"),
    ("CC-BY-NC-ND-4.0", "own", "quantise", "", "research", FAIL, "may not be changed"),
    ("Apache-2.0", "CC-BY-ND-4.0", "adapter", "", "commercial", WARN, "no derivatives"),
    ("CC-BY-SA-4.0", "own", "finetune", "", "commercial", WARN, "same licence"),
    ("Apache-2.0", "CC-BY-SA-4.0", "adapter", "", "commercial", WARN, "open question"),
    ("Apache-2.0", "odbl", "adapter", "", "commercial", WARN, "open question"),
    ("gpl-3.0", "own", "merge", "", "commercial", WARN, "same licence"),
    ("agpl-3.0", "own", "finetune", "", "commercial", WARN, "offered the source"),
    ("openrail", "own", "finetune", "", "commercial", WARN, "use restrictions"),
    ("bigscience-openrail-m", "own", "adapter", "", "commercial", WARN, "use restrictions"),
    ("llama3.1", "own", "adapter", "", "commercial", WARN, "700 million"),
    ("llama2", "own", "merge", "", "commercial", WARN, "must begin"),
    ("Gemma", "own", "adapter", "", "commercial", WARN, "changed by their owner"),
    ("Apache-2.0", "own", "adapter", "Apache-2.0", "commercial", PASS, ""),
    ("Apache-2.0", "own", "adapter", "MIT", "commercial", PASS, ""),
    ("Apache-2.0", "own", "adapter", "CC-BY-SA-4.0", "commercial", PASS, ""),
    ("Apache-2.0", "own", "adapter", "llama3", "commercial", FAIL, "forbid training"),
    ("Apache-2.0", "own", "adapter", "llama2", "research", FAIL, "forbid training"),
    ("Apache-2.0", "own", "adapter", "llama3.3", "commercial", WARN, "must begin"),
    ("Apache-2.0", "own", "adapter", "cc-by-nc-4.0", "commercial", FAIL, "denied by teacher"),
    ("Apache-2.0", "own", "adapter", "gemma", "commercial", WARN, "changed by their owner"),
    ("Apache-2.0", "own", "adapter", "unknown", "commercial", FAIL, "teacher is not known"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda c: " ".join(filter(None, c[:5])))
def test_parent_and_child(case: tuple[str, ...]) -> None:
    base, data, relation, teacher, use, verdict, word = case
    found = made(base, data, relation, teacher, use=use)
    assert found.verdict == verdict, found.reasons
    assert word in "; ".join(text for _, text in found.reasons)


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 30


def test_attribution_reaches_the_model_from_rows_and_notice_from_the_base() -> None:
    found = made("Apache-2.0", "CC-BY-4.0", "adapter")
    assert found.asks == {ATTRIBUTION: ("data",), NOTICE: ("base",)}
    assert found.commercial is True


def test_share_alike_of_two_kinds_is_refused() -> None:
    nodes = (
        Licensed(name="one", what="base", licence="CC-BY-SA-4.0"),
        Licensed(name="two", what="base", licence="GPL-3.0-only"),
        Licensed(name="both", what="adapter", licence="", parents=("one", "two"), relation="merge"),
    )
    found = decide(nodes, "both")
    assert found.verdict == FAIL and "exclude one another" in str(found.reasons)


def test_an_outgoing_licence_has_to_fit() -> None:
    assert made("CC-BY-SA-4.0", outgoing="CC-BY-SA-4.0").verdict == WARN
    assert "asks for the same licence" in str(made("CC-BY-SA-4.0", outgoing="MIT").reasons)
    assert "would allow commercial use" in str(made("cc-by-nc-4.0", outgoing="MIT", use="research").reasons)
    assert made("Apache-2.0", outgoing="nonsense").verdict == FAIL


def test_obligations_go_through_grandparents() -> None:
    nodes = (
        Licensed(name="old", what="base", licence="cc-by-nc-4.0"),
        Licensed(name="tuned", what="base", licence="MIT", parents=("old",), relation="finetune"),
        Licensed(name="quantised", what="base", licence="MIT", parents=("tuned",), relation="quantise"),
    )
    found = decide(nodes, "quantised")
    assert found.verdict == FAIL and found.asks[NO_COMMERCIAL] == ("old",)


def test_a_signature_makes_the_unknown_known() -> None:
    nodes = (
        Licensed(name="data", what="data", licence="a contract", signed_by="A. Person"),
        Licensed(name="model", what="adapter", licence="", parents=("data",), relation="adapter"),
    )
    assert decide(nodes, "model").verdict == PASS


def test_graphs_that_are_none() -> None:
    loop = (
        Licensed(name="a", what="base", licence="MIT", parents=("b",), relation="merge"),
        Licensed(name="b", what="base", licence="MIT", parents=("a",), relation="merge"),
    )
    with pytest.raises(InputError, match="circle"):
        decide(loop, "a")
    with pytest.raises(InputError, match="not in it"):
        decide((Licensed(name="a", what="base", licence="MIT", parents=("x",)),), "a")
    with pytest.raises(InputError, match="use 'war'"):
        decide((Licensed(name="a", what="base", licence="MIT"),), "a", use="war")


LICENCES = st.sampled_from(sorted(TABLE))


@given(LICENCES, LICENCES, st.sampled_from(DERIVED))
def test_a_derivative_never_asks_less_than_its_base(base: str, data: str, relation: str) -> None:
    found = made(base, data, relation)
    assert TABLE[base].asks <= set(found.asks)
    if NO_COMMERCIAL in TABLE[base].asks | TABLE[data].asks:
        assert found.verdict == FAIL and found.commercial is False


@given(st.text(max_size=20))
def test_any_text_is_a_licence_we_know_or_unknown(text: str) -> None:
    found = canonical(text)
    assert found is None or found in TABLE
    if found is None:
        assert made(text.replace("-", "") or "other").verdict == FAIL


def test_of_two_licences_the_one_that_asks_less_is_taken() -> None:
    assert canonical("MIT or Apache-2.0") == "MIT"
    assert canonical("public domain or CC-BY-4.0") == "CC0-1.0"
    assert canonical("unheard-of or CC-BY-4.0") == "CC-BY-4.0"
    assert canonical("unheard-of or unknown") is None
    assert canonical("CC-BY-NC-4.0 OR GPL-3.0-only") == "GPL-3.0-only", "one that denies nothing"


@pytest.mark.parametrize(
    ("corpus", "verdict", "asked"),
    [("CC-BY-4.0", PASS, ATTRIBUTION), ("CC-BY-NC-4.0", FAIL, NO_COMMERCIAL), ("not stated", FAIL, "")],
)
def test_what_a_base_has_read_reaches_the_release(corpus: str, verdict: str, asked: str) -> None:
    nodes = (
        Licensed(name="corpus:web", what="corpus", licence=corpus),
        Licensed(name="base:mine", what="base", licence="Apache-2.0", parents=("corpus:web",)),
        Licensed(name="release", what="adapter", licence="", parents=("base:mine",), relation="adapter"),
    )
    found = decide(nodes, "release")
    assert found.verdict == verdict
    assert not asked or found.asks[asked] == ("corpus:web",)


def test_a_base_of_our_own_names_its_corpora() -> None:
    from basewise.steps.bases import pull
    from basewise.steps.gate import corpora_of

    names = [a.name for a in corpora_of(pull("basewise-tiny"))]
    assert "corpus:textbooks (CC-BY-4.0)" in names
    assert all(canonical(a.licence) for a in corpora_of(pull("basewise-tiny")))
