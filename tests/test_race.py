"""The race under a clock: arms that cannot finish are not started, the likeliest go first, a fall makes room for the next."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from basewise.core.budget import Cost
from basewise.core.errors import BudgetError
from basewise.core.task import Examples
from basewise.steps import race as module
from basewise.steps import worth
from basewise.steps.elimination import drop, rescue, stop
from basewise.steps.entries import Entry
from basewise.steps.jobs import Arm, Outcome, outcome_record
from basewise.steps.race import Race
from basewise.steps.verdict import _tied, half_tried, leaderboard, saving, sentence, stand

ROWS, FOLDS = 200, 5
LABELS = np.arange(ROWS) % 2


class Ticking:
    """A clock that only jobs move."""

    def __init__(self, seconds: float) -> None:
        self.seconds = self.left = seconds


class Nothing:
    """A journal that keeps nothing."""

    def saved(self, _name: str) -> None:
        return None

    def keep(self, *_: Any) -> None:
        return None


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A race of arms given as name: (seconds a fit, share of right answers); what ran, in order, stands in `ran`."""

    def build(seconds: float, arms: dict[str, tuple[float, float]]) -> tuple[Race, list[str]]:
        ran: list[str] = []
        clock = Ticking(seconds)

        def run(job: Any, _progress: Any = None) -> Outcome:
            each, right = arms[job.arm.method]
            ran.append(job.arm.method)
            clock.left -= each
            labels = np.array([int(t) for t in job.texts])
            good = np.arange(len(labels)) < right * len(labels)
            guess = np.where(good, labels, 1 - labels)
            return Outcome(probabilities=np.eye(2)[guess] * 0.9 + 0.05, cost=Cost(seconds=each), choices={})

        monkeypatch.setattr(module, "run_job", run)
        monkeypatch.setattr(worth, "run_job", run)
        train = Examples(
            tuple(str(v) for v in LABELS), LABELS, np.arange(ROWS), np.arange(ROWS), ("no", "yes")
        )
        race = Race(
            train=train,
            folds=np.arange(ROWS) // (ROWS // FOLDS),
            wanted=tuple(range(FOLDS)),
            run=Nothing(),  # type: ignore[arg-type]
            clock=clock,  # type: ignore[arg-type]
            machine=None,  # type: ignore[arg-type]
        )
        race.entries = [Entry(Arm(method=name), Cost(seconds=each)) for name, (each, _) in arms.items()]
        return race, ran

    return build


def status(race: Race) -> dict[str, str]:
    return {e.arm.method: e.status for e in race.entries}


def test_only_arms_that_finish_together_are_started(make: Any) -> None:
    race, ran = make(100.0, {"first": (10.0, 0.8), "second": (10.0, 0.7), "cheap": (2.0, 0.78)})
    race.run_raced(race.entries)
    assert status(race) == {"first": "finished", "second": "skipped", "cheap": "finished"}
    assert "second" not in ran
    assert race.clock.left >= 0
    assert "5 fits and a last one on all rows, predicted 10 s each" in race.entries[1].why


def test_fits_are_watched_and_what_the_journal_held_is_not(make: Any) -> None:
    kept: dict[str, Any] = {}
    watched: list[Any] = []
    # the folds of these rows are alike, so one job
    for runs in (1, 0):
        race, ran = make(100.0, {"only": (10.0, 0.8)})
        race.run.saved, race.run.keep = kept.get, lambda name, *what: kept.update({name: what})
        race.watch = lambda _race, now: watched.append(now)
        race.run_raced(race.entries)
        assert status(race) == {"only": "finished"} and len(ran) == runs
        assert len(watched) == 2 * runs, "before and after each fit"
        watched.clear()


@pytest.mark.parametrize("way", ["run_plain", "run_raced"])
def test_what_the_journal_holds_is_read_whatever_the_clock_says(way: str, make: Any) -> None:
    """A run that goes on has little time left; what it had scored before it was stopped is not lost."""
    kept: dict[str, Any] = {}
    arms = {"first": (0.0, 0.6), "trained": (10.0, 0.9), "new": (10.0, 0.9)}
    for seconds, count in ((100.0, 2), (1.0, 3)):
        race, ran = make(seconds, dict(list(arms.items())[:count]))
        race.run.saved, race.run.keep = kept.get, lambda name, *what: kept.update({name: what})
        race.run_plain(race.entries[0])
        for entry in race.entries[1:] if way == "run_plain" else ():
            race.run_plain(entry)
        if way == "run_raced":
            race.run_raced(race.entries[1:])
    assert status(race) == {"first": "finished", "trained": "finished", "new": "skipped"}
    assert not ran


def test_an_arm_that_falls_makes_room_for_the_next(make: Any) -> None:
    race, ran = make(100.0, {"good": (6.0, 0.95), "bad": (6.0, 0.2), "late": (6.0, 0.9)})
    race.run_raced(race.entries)
    assert status(race) == {"good": "finished", "bad": "dropped", "late": "finished"}
    assert ran.count("bad") < FOLDS
    assert "proven worse" in race.entries[1].why


def test_an_arm_that_was_asked_for_is_run_to_its_end(make: Any) -> None:
    race, _ = make(100.0, {"good": (6.0, 0.95), "bad": (6.0, 0.2)})
    race.asked = "bad"
    race.run_raced(race.entries)
    assert status(race) == {"good": "finished", "bad": "finished"}
    standing = saving(stand(race.trials()), "bad", race.trials(), [], False)
    assert (standing.chosen.name, standing.leader.name, standing.advised) == ("bad", "good", "good")
    said = sentence(standing, {}, {}, False)
    assert said.startswith("Saved as asked, bad: right on 20.0 % [")
    assert said.endswith("] in cross-validation on 200 rows; these rows speak for good.")
    with pytest.raises(BudgetError, match=r"other was not scored in full \(it was left out\)"):
        saving(stand(race.trials()), "other", race.trials(), ["it was left out"], False)
    notes: list[str] = []
    left = saving(stand(race.trials()), "other", race.trials(), notes, True)
    assert notes == [f"other was asked for and is not done; what was saved is {left.chosen.name}."]


def test_the_sentence_quotes_the_score_of_the_arm_it_names(make: Any) -> None:
    """The arm that is chosen need not lead: without test rows its own score stands behind its name, not the leader's."""
    race, _ = make(1000.0, {"dear": (40.0, 0.9), "cheap": (1.0, 0.875)})
    for entry in race.entries:
        race.run_plain(entry)
    led = stand(race.trials())
    assert led.winner["name"] == "dear"
    assert "Take cheap: right on 87.5 % [" in sentence(replace(led, chosen=led.finalists[1]), {}, {}, False)
    assert "corrected for the choice" in sentence(led, {}, {}, False)


def test_an_arm_slower_than_it_said_is_ended_before_it_eats_the_budget(make: Any) -> None:
    race, _ = make(60.0, {"liar": (25.0, 0.8)})
    race.entries[0].predicted = Cost(seconds=1.0)
    race.run_raced(race.entries)
    assert status(race) == {"liar": "dropped"}
    assert race.clock.left > 0


def test_the_look_at_the_test_rows_is_inside_the_budget(make: Any) -> None:
    race, ran = make(20.0, {"slow in use": (1.0, 0.8)})
    race.look_rows = 1_000
    race.entries[0].predicted = Cost(seconds=1.0, predict_seconds_per_row=0.1)
    race.run_raced(race.entries)
    assert status(race) == {"slow in use": "skipped"}
    assert not ran


def test_an_arm_that_only_time_ended_counts_where_it_leads(make: Any) -> None:
    race, _ = make(100.0, {"control": (1.0, 0.6), "better": (10.0, 0.9), "worse": (10.0, 0.5)})
    control, better, worse = race.entries
    for fold in range(FOLDS):
        race.go(control, fold)
    for entry in (better, worse):
        for fold in range(3):
            race.go(entry, fold)
        race.skip(entry, 2)
    rescue(race)
    assert status(race) == {"control": "finished", "better": "finished", "worse": "dropped"}
    assert "3 of 5 folds" in better.why
    trials = {t.method: t for t in race.trials()}
    assert len(trials["better"].row_ids) == 3 * ROWS // FOLDS


def test_where_only_the_majority_was_guessed_one_fold_and_a_little_more_time_will_do(make: Any) -> None:
    """What would be saved else is of no use. The last fit of the cheap arm takes less than a tenth of the budget, that of the dear one more."""
    arms = {"majority": (0.0, 0.5), "cheap": (1.0, 0.9), "dear": (9.0, 0.9), "no better": (1.0, 0.55)}
    race, _ = make(20.0, arms)
    race.run_plain(race.entries[0])
    for entry in race.entries[1:]:
        race.go(entry, 0)
        race.skip(entry, 4)
    race.clock.left = 0.5
    rescue(race)
    assert [e.status for e in race.entries] == ["finished", "finished", "dropped", "dropped"]
    assert race.entries[1].why == "scored on 1 of 5 folds: the time was short"
    assert stand(race.trials()).chosen.name == "cheap"
    race.entries[1].status = "dropped"
    race.train = replace(race.train, groups=np.arange(ROWS) // (ROWS // FOLDS // 2))
    rescue(race)
    assert race.entries[1].status == "dropped", "two customers a fold show nothing"
    race.train = replace(race.train, groups=np.arange(ROWS))
    race.asked = "majority"
    rescue(race)
    assert race.entries[1].status == "dropped", "the guess was asked for"


def test_a_control_that_does_not_fit_in_full_is_scored_on_the_folds_that_fit(make: Any) -> None:
    """Five fits of 4 s and a last one do not fit into 25 s; four do, and they show that it leads."""
    race, ran = make(25.0, {"majority": (0.0, 0.5), "words": (4.0, 0.9), "dear": (9.0, 0.9)})
    for entry in race.entries:
        race.run_plain(entry)
    words = race.entries[1]
    assert (ran.count("words"), words.status, words.out_of_time) == (4, "dropped", True)
    assert race.clock.left == 9.0
    assert "dear" not in ran, "two of its fits and a last one do not fit"
    rescue(race)
    assert status(race) == {"majority": "finished", "words": "finished", "dear": "skipped"}
    assert "4 of 5 folds" in words.why
    assert stand(race.trials()).chosen.name == "words"


def test_what_was_under_way_when_the_race_was_stopped_counts_where_it_leads(make: Any) -> None:
    """Two of five folds were scored by workers and stand in the journal only."""
    from types import SimpleNamespace

    kept: dict[str, Any] = {}
    race, _ = make(1e9, {"majority": (1.0, 0.5), "words": (1.0, 0.9), "waiting": (1.0, 0.9)})
    majority, words, _never = race.entries
    race.run_plain(majority)
    race.run.saved = kept.get
    race.job = lambda entry, fold: SimpleNamespace(name=f"{entry.arm.name} {fold}")  # type: ignore[assignment]
    for fold in (0, 1):
        right = np.eye(2)[LABELS[race.folds == fold]] * 0.9 + 0.05
        kept[f"words {fold}"] = outcome_record(
            Outcome(probabilities=right, cost=Cost(seconds=1.0), choices={})
        )
    stop(race)
    assert (words.status, len(words.outcomes), words.out_of_time) == ("dropped", 2, True)
    rescue(race, "the race was stopped")
    assert status(race) == {"majority": "finished", "words": "finished", "waiting": "waiting"}
    assert words.why == "scored on 2 of 5 folds: the race was stopped"
    standing = stand(race.trials())
    assert (standing.chosen.name, len(standing.rows)) == ("words", 80)


def test_later_predictions_are_for_the_machine_as_it_is(make: Any) -> None:
    from dataclasses import replace
    from types import SimpleNamespace

    from basewise.core.base import Card
    from basewise.core.method import Machine
    from basewise.engine.costs import encode_seconds

    race, _ = make(100.0, {"any": (1.0, 0.6)})
    race.machine = Machine(cores=2, memory_bytes=1 << 33, fp32_peak=1e11, bf16_peak=2e11)
    card = Card(
        key="a", source="folder", family="encoder", licence="MIT", parameters=10**8, layers=12, width=768,
        download_bytes=1,
    )  # fmt: skip
    said = encode_seconds(race.train.texts, card, race.machine)[1]
    race.measured_forward(SimpleNamespace(key="a", card=card), 4.0 * said)  # type: ignore[arg-type]
    assert race.forward["a"] == 4.0 * said
    wider = replace(card, width=1024)
    before = encode_seconds(race.train.texts, wider, race.machine)[1]
    again = encode_seconds(race.train.texts, wider, race.machine_now(wider))[1]
    assert again == pytest.approx(4.0 * before, rel=0.2)
    assert race.machine_now(None) == race.machine


def test_an_arm_is_skipped_when_others_have_taken_the_memory_since_it_was_entered(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    race, ran = make(100.0, {"first": (1.0, 0.9), "large": (1.0, 0.9)})
    held = {"bytes": 1e9}
    monkeypatch.setattr(module, "resident_bytes", lambda: held["bytes"])
    race.memory_bytes = 4e9
    for entry, adds in zip(race.entries, (0.5e9, 2e9), strict=True):
        entry.adds_bytes = adds
        assert race.foresee_memory(entry)
    assert race.entries[1].predicted.memory_bytes == 3e9
    race.run_plain(race.entries[0])
    held["bytes"] = 2.5e9
    race.run_plain(race.entries[1])
    assert status(race) == {"first": "finished", "large": "skipped"} and set(ran) == {"first"}
    assert "4.5 GB is above the budget" in race.entries[1].why


def test_a_base_above_the_memory_budget_is_not_loaded_and_a_broken_budget_is_told(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    from basewise.core.budget import Budget
    from basewise.steps.conclude import budget_table

    race, _ = make(100.0, {"any": (1.0, 0.9)})
    monkeypatch.setattr(module, "resident_bytes", lambda: 400e6)
    card: Any = SimpleNamespace(family="encoder", parameters=22.7e6)
    assert race.memory_short(card) == "", "no budget"
    race.memory_bytes = 450e6
    assert race.memory_short(card).endswith("would hold 736 MB, above the budget of 450 MB")
    race.memory_bytes = 800e6
    assert race.memory_short(card) == ""
    race.clock.used = 1.0
    notes: list[str] = []
    budget_table(Budget(memory_bytes=800e6), race, [], 700_000_000, notes)
    assert notes == []
    table = budget_table(Budget(memory_bytes=450e6), race, [], 857_000_000, notes)
    assert table["peak_memory_bytes"] == 857_000_000
    assert notes == ["The memory budget was not kept: 857 MB at the peak, 450 MB were allowed."]


def test_a_fit_on_stored_features_is_given_its_share_of_the_time_left(make: Any) -> None:
    from basewise.steps.entries import limit_of

    race, _ = make(60.0, {"any": (1.0, 0.9)})
    race.network_runs = lambda arm: False  # type: ignore[method-assign]
    assert limit_of(race, race.entries[0]) == pytest.approx(60.0 / (FOLDS + 1))
    race.clock.left = -5.0
    assert limit_of(race, race.entries[0]) == 1.0
    race.network_runs = lambda arm: True  # type: ignore[method-assign]
    assert limit_of(race, race.entries[0]) == float("inf")


def test_fewer_folds_are_planned_where_labels_are_many(make: Any) -> None:
    race, _ = make(50.0, {"trained": (10.0, 0.9)})
    race.planned_folds = 3
    race.run_raced(race.entries)
    assert status(race) == {"trained": "dropped"}
    assert len(race.entries[0].outcomes) == 3
    rescue(race)
    assert status(race) == {"trained": "dropped"}, "alone it leads nobody"


def test_on_few_rows_log_loss_tells_arms_apart_that_are_right_alike() -> None:
    """Of 40 rows the second arm has one less right and is far surer of the right answers; the third is sure, and too often wrong."""
    right = np.ones((3, 40), bool)
    right[1, 0] = right[2, :9] = False
    assert _tied(right, np.array([1.4, 1.0, 0.9]), 0.01) == [1]
    assert _tied(right, np.array([1.4, 1.4, 0.9]), 0.01) == [0, 1], "a leader that is as sure is tied"


def test_a_note_says_that_the_arm_that_was_right_more_often_was_not_taken(make: Any) -> None:
    race, _ = make(1e9, {"unsure": (1.0, 0.8), "sure": (1.0, 0.8)})
    race.train, race.folds = race.train.take(np.arange(40)), np.arange(40) // 8
    for entry in race.entries:
        for fold in race.wanted:
            race.go(entry, fold)
    unsure, sure = race.trials()
    sharp = np.where(sure.probabilities > 0.5, 0.99, 0.01)
    sharp[~sure.right] = 0.5 + 0.01 * (sharp[~sure.right] - 0.5)
    first = int(np.flatnonzero(sure.right)[0])
    sharp[first] = 0.5 - 0.01 * (sharp[first] - 0.5)  # one row less
    standing = stand([unsure, replace(sure, probabilities=sharp)])
    assert (standing.chosen.name, standing.leader.name, standing.verdict) == ("sure", "unsure", "winner")
    assert standing.leads_by_luck() == [
        "unsure is ahead on these 40 rows, by less than one standard error; on so few log-loss tells more, and it speaks for sure."
    ]
    assert replace(standing, leader=standing.chosen).leads_by_luck() == []


@pytest.mark.parametrize(("rows", "tied"), [(40, [0]), (400, [0, 1])])
def test_on_many_rows_an_arm_as_often_right_is_tied_whatever_its_log_loss(rows: int, tied: list[int]) -> None:
    right = np.ones((2, rows), bool)
    right[0, : rows // 10] = False
    right[1, rows // 10 : rows // 5] = False
    assert _tied(right, np.array([0.3, 0.5]), 0.01) == tied


@pytest.mark.parametrize(("alike", "left"), [(1, "dropped"), (8, "partial")])
def test_rows_that_belong_together_prove_less(make: Any, alike: int, left: str) -> None:
    """One arm misses 8 of 40 rows in each fold: enough where rows stand alone, five groups of 25 where eight belong together."""
    race, _ = make(1e9, {"always right": (1.0, 1.0), "often": (1.0, 0.8)})
    race.train = replace(race.train, groups=np.arange(ROWS) // alike)
    race.folds, race.wanted = np.arange(ROWS) // 40, tuple(range(FOLDS))
    for entry, missed in zip(race.entries, (0, 8), strict=True):
        entry.status = "partial"
        for fold in range(FOLDS):
            labels = LABELS[race.folds == fold]
            guess = np.where(np.arange(40) < missed, 1 - labels, labels)
            entry.outcomes[fold] = Outcome(
                probabilities=np.eye(2)[guess] * 0.9 + 0.05, cost=Cost(seconds=1.0), choices={}
            )
    drop(race)
    assert [e.status for e in race.entries] == ["partial", left]
    a, b = (replace(race.trial(e), status="finished") for e in race.entries)
    standing = stand([a, b])
    score, gap = (leaderboard([a, b], standing, {})[1][k] for k in ("score", "difference"))
    assert score["n"] == gap["n"] == ROWS and (gap["p"] < 1e-6) is (alike == 1)
    assert (score["high"] - score["low"] > 0.15) is (alike > 1)


def test_what_the_plan_leaves_is_shared_and_given_again() -> None:
    from types import SimpleNamespace

    from basewise.core.budget import Cost
    from basewise.steps.entries import Entry, spare_of
    from basewise.steps.jobs import Arm

    entry = Entry(Arm(method="majority"), Cost(seconds=3.0))
    race = SimpleNamespace(
        entries=[entry], clock=SimpleNamespace(left=100.0), planned=lambda e: 5 - len(e.outcomes),
        seconds_a_fold=lambda e: 13.0 if e.outcomes else 3.0, last_seconds=lambda e: 10.0,
    )  # fmt: skip
    assert spare_of(race, entry) == pytest.approx(75 / 6 / 2)
    entry.outcomes[0], race.clock.left = object(), 87.0  # type: ignore[assignment]
    assert spare_of(race, entry) == pytest.approx(75 / 6 / 2), "the plan holds what the first fit took"
    race.clock.left = 50.0
    assert spare_of(race, entry) == 0.0, "the plan does not fit any more"


def test_no_fit_of_a_curve_is_begun_that_the_time_left_does_not_hold(make: Any) -> None:
    """Fits that take twice their plan are noticed: the curve ends at the sizes that were done, and the clock is not overrun."""
    race, ran = make(100.0, {"first": (10.0, 0.8)})
    rows = race.rows_of(0)
    fits = dict.fromkeys((20, 40, 80, 160), 10.0)
    found = worth.curve(Arm(method="first"), rows, fits, 1, race, race.progress)
    assert found is not None
    assert found["sizes"] == [20, 40, 80, 160]
    race, ran = make(65.0, {"first": (20.0, 0.8)})
    found = worth.curve(Arm(method="first"), rows, fits, 1, race, race.progress)
    assert found is not None
    assert found["sizes"] == [20, 40, 80], "three fits of 20 s; the fourth would end 15 s late"
    assert race.clock.left == 5.0
    assert len(ran) == 3
    race, _ = make(45.0, {"first": (20.0, 0.8)})
    assert worth.curve(Arm(method="first"), rows, fits, 1, race, race.progress) is None
    assert race.clock.left == 5.0
    assert worth.affordable(fits, race.clock, 0.9) == 0


def test_what_the_planned_folds_leave_goes_to_the_better_arm(make: Any) -> None:
    """Two arms do not fit together beyond their planned folds: the worse one gives way, the better one goes on to the end."""
    race, ran = make(150.0, {"good": (10.0, 0.75), "dear": (25.0, 0.725)})
    race.planned_folds = 3
    # 45 s are left after three folds each: 20 and 13 s of the one, not 25 and 33 s more
    race.run_raced(race.entries)
    assert status(race) == {"good": "finished", "dear": "dropped"}
    assert ran.count("good") == 5
    assert ran.count("dear") == 3
    dear = next(e for e in race.entries if e.arm.method == "dear")
    assert "gave way after" in dear.why
    assert race.clock.left >= 13.0


def test_a_control_that_wins_by_time_alone_is_told(make: Any) -> None:
    """An arm on a base was ahead on the rows it was scored on and ran out of time: the reader must not take it for no help."""
    from types import SimpleNamespace

    from basewise.steps.conclude import ahead_but_late

    race, _ = make(1000.0, {"control": (1.0, 0.7), "late": (1.0, 0.8)})
    control, late = race.entries
    for fold in race.wanted:
        race.go(control, fold)
    race.go(late, 0)
    late.arm = Arm(method="late", base=SimpleNamespace(key="minilm"))  # type: ignore[arg-type]
    assert ahead_but_late(race, control) is None, "it was not time that ended it"
    late.out_of_time = True
    said = ahead_but_late(race, control)
    assert said is not None
    assert said.startswith("minilm + late was ahead of control on the 40 rows")
    assert "(80.0 and 70.0 %)" in said
    assert ahead_but_late(race, late) is None, "the control is behind"
    control.arm = Arm(method="control", base=SimpleNamespace(key="minilm"))  # type: ignore[arg-type]
    said = ahead_but_late(race, control)
    assert said is not None and said.startswith("minilm + late was ahead of minilm + control"), "so is a base"
    control.arm = Arm(method="control")
    late.arm = Arm(method="late")
    said = ahead_but_late(race, control)
    assert said is not None and said.startswith("late was ahead of control"), (
        "so was a control that needs none"
    )


def test_a_base_that_time_ended_is_not_said_to_be_no_help(make: Any) -> None:
    """Only two folds of one arm were scored and the others never began: neither "no base helps", nor a bare winner."""
    from types import SimpleNamespace

    from basewise.steps.conclude import standing_notes

    race, _ = make(1000.0, {"words": (1.0, 0.8), "prototype": (1.0, 0.6), "probe": (1.0, 0.9)})
    words, prototype, probe = race.entries
    base = SimpleNamespace(key="minilm", digest="0", card=None)
    for fold in race.wanted:
        race.go(words, fold)
    for entry in (prototype, probe):
        entry.arm = Arm(method=entry.arm.method, base=base)  # type: ignore[arg-type]
    for fold in (0, 1):
        prototype.outcomes[fold] = words.outcomes[fold]
    race.stored = lambda arm: False  # type: ignore[method-assign]
    race.skip(prototype, 3)
    race.skip(probe, 5)
    trials = race.trials()
    standing = stand(trials)
    assert (standing.verdict, standing.chosen.name, half_tried(trials)) == ("winner", "words", ["minilm"])
    notes = standing_notes(standing, {}, trials, False)
    assert notes[0] == "minilm was not tried in full, so whether it would help is open."
    prototype.out_of_time, prototype.why = False, "proven worse than words"
    trials = race.trials()
    assert (stand(trials).verdict, half_tried(trials)) == ("no base helps", []), "evidence ended it"


def test_where_no_arm_fits_with_all_folds_the_likeliest_is_compared_on_fewer(make: Any) -> None:
    race, ran = make(40.0, {"likely": (8.0, 0.9), "other": (8.0, 0.9)})  # five fits and a last one take 50 s
    race.run_raced(race.entries)
    assert ran == ["likely"] * 3 and status(race) == {"likely": "dropped", "other": "skipped"}
    assert race.entries[0].out_of_time
    race, ran = make(20.0, {"likely": (8.0, 0.9)})
    race.run_raced(race.entries)
    assert not ran, "one fold compares nothing"
    race, ran = make(50.0, {"likely": (8.0, 0.9)})
    race.entries[0].predicted = Cost(seconds=5.0)  # it takes longer than it was told to
    race.run_raced(race.entries)
    assert ran == ["likely"] * 4


def test_what_only_the_first_fit_imports_is_not_charged_to_it(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seconds of imports, taken for the length of each fit, left no room for the others."""
    from types import SimpleNamespace

    from basewise.engine import weights

    race, ran = make(100.0, {"contrast": (1.0, 0.9)})
    race.entries[0].arm = Arm(method="contrast", base=SimpleNamespace(key="a", digest="d"))  # type: ignore[arg-type]
    monkeypatch.setattr(weights, "import_network", lambda base: ran.append(f"import {base.key}"))
    race.go(race.entries[0], 0)
    assert ran == ["import a", "contrast"]
