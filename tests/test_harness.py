"""Asking a suite: chunks, resuming after a kill, refusing what does not belong together, several replies,
comparison."""

import json

import pytest

from azr_lite.errors import EvaluationError
from azr_lite.evaluation.runner import answer, run_suite
from azr_lite.evaluation.scores import compare_paired, read_result, summarize
from azr_lite.evaluation.suite import Data, Mark, Prompt, Question, Sampling, choose, read_data
from tests.scripted import ScriptedGenerator


class Sums:
    """A suite of our own: additions, right when the reply says the sum, well-formed when it says nothing else."""

    name, protocol, data = "sums", "say the sum", Data("sums", "here", "0" * 64, ())
    temperature, max_tokens, stop = 0.0, 5, (".",)

    def __init__(self, samples=1, count=20):
        self.samples, self.count = samples, count

    def questions(self):
        return [
            Question(f"q{n}", "even" if n % 2 == 0 else "odd", Prompt(f"{n} + {n} =" + " " * (n % 3)), "")
            for n in range(self.count)
        ]

    def grade(self, replies):
        return [self.mark(int(q.id[1:]), r.text.strip(" .")) for q, r in replies]

    def mark(self, n, text):
        found = str(2 * n) in text.split(" ")
        return Mark(
            text == str(2 * n), found, text.isdecimal(), "" if text == str(2 * n) else "wrong", {"found": found}
        )


def number(prompt):
    return int(prompt.text.split()[0])


def good(prompt, sample):
    return str(2 * number(prompt))


class Counting(ScriptedGenerator):
    """Dies at a given prompt, once, as by kill -9: nothing after it happens."""

    def __init__(self, answer, dies_at=None):
        super().__init__(answer)
        self.asked, self.dies_at = [], dies_at

    def generate(self, prompts, *how):
        if self.dies_at in [number(p) for p in prompts]:
            raise KeyboardInterrupt
        self.asked += [number(p) for p in prompts]
        return super().generate(prompts, *how)


def test_everything_that_a_result_must_carry(tmp_path):
    result = run_suite(ScriptedGenerator(good), Sums(), tmp_path, chunk=6)
    record = json.loads((tmp_path / "sums.json").read_text())
    assert record["scores"]["all"] | {"n": 20, "accuracy": 1.0, "standard_error": 0.0} == record["scores"]["all"]
    names = "version suite protocol asked scores truncated tokens seconds confinement environment"
    assert set(record) == set(names.split())
    assert record["asked"]["data"]["sha256"] == "0" * 64
    assert (record["asked"]["samples"], record["asked"]["temperature"], record["asked"]["stop"]) == (1, 0.0, ["."])
    assert {"python", "versions", "command", "git"} <= set(record["environment"])
    assert len(result.items) == 20
    assert result.items[3].prompt == "3 + 3 ="
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["sums.json", "sums.jsonl"]


def test_a_killed_evaluation_goes_on_where_it_stopped(tmp_path):
    whole = run_suite(Counting(good), Sums(), tmp_path / "whole", chunk=3)
    first = Counting(good, dies_at=13)
    with pytest.raises(KeyboardInterrupt):
        run_suite(first, Sums(), tmp_path / "cut", chunk=3)
    assert (tmp_path / "cut" / "sums.replies.json").exists()
    assert first.asked
    second = Counting(good)
    result = run_suite(second, Sums(), tmp_path / "cut", chunk=3)
    assert len(second.asked) == 20 - len(first.asked)
    assert result.items == whole.items
    assert (tmp_path / "cut/sums.jsonl").read_bytes() == (tmp_path / "whole/sums.jsonl").read_bytes()
    third = Counting(good)
    assert run_suite(third, Sums(), tmp_path / "cut", chunk=3).items == whole.items
    assert third.asked == [], "a finished evaluation is read, not made again"


def test_another_evaluation_is_not_mixed_in(tmp_path):
    run_suite(ScriptedGenerator(good), Sums(), tmp_path)
    with pytest.raises(EvaluationError, match=r"another evaluation \(generator\); choose another --output-dir"):
        run_suite(ScriptedGenerator(good, name="other"), Sums(), tmp_path)
    with pytest.raises(EvaluationError, match=r"\(questions, prompts_sha256\)"):
        run_suite(ScriptedGenerator(good), Sums(count=19), tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run_suite(Counting(good, dies_at=4), Sums(), tmp_path / "cut", chunk=2)
    with pytest.raises(EvaluationError, match=r"sums.replies.json holds another evaluation \(samples\)"):
        run_suite(Counting(good), Sums(samples=2), tmp_path / "cut", chunk=2)


@pytest.mark.parametrize(("damage", "said"), [("{", "cannot be read"), ('{"version": 99}', "format 99")])
def test_a_damaged_result_is_told_in_a_sentence(tmp_path, damage, said):
    run_suite(ScriptedGenerator(good), Sums(), tmp_path)
    (tmp_path / "sums.json").write_text(damage)
    with pytest.raises(EvaluationError, match=said):
        read_result(tmp_path, "sums")


def test_few_questions_are_chosen_by_digest_and_kept_apart(tmp_path):
    chosen = choose(Sums(count=200).questions(), 5)
    assert [q.group for q in chosen].count("even") == [q.group for q in chosen].count("odd") == 5
    assert chosen != Sums(count=200).questions()[:10]
    assert choose(list(reversed(Sums(count=200).questions())), 5) == list(reversed(chosen))
    run_suite(ScriptedGenerator(good), Sums(), tmp_path, items=2)
    assert (tmp_path / "sums-2.json").exists()
    run_suite(ScriptedGenerator(good), Sums(), tmp_path)


def test_several_replies_give_pass_at_k():
    """Every question: two of four replies right. pass@1 is a half, pass@2 is 1 - C(2,2)/C(4,2), pass@4 is certain."""
    suite = Sums(samples=4)

    def half(prompt, sample):
        return good(prompt, sample) if sample < 2 else "no"

    scores = summarize(answer(ScriptedGenerator(half), suite, suite.questions()))["all"]
    assert (scores["n"], scores["right"], scores["accuracy"]) == (20, 40, 0.5)
    assert [scores[f"pass@{k}"]["accuracy"] for k in (1, 2, 4)] == pytest.approx([0.5, 5 / 6, 1.0])


def test_pass_at_k_of_base_and_trained_are_compared_on_the_same_questions():
    """The base is right in one of two replies to each question, the trained model in both: all gain is at k = 1."""
    suite = Sums(samples=2)
    half, whole = (
        answer(ScriptedGenerator(script), suite, suite.questions())
        for script in (lambda p, n: good(p, n) if n else "no", good)
    )
    gains = compare_paired(half, whole)["all"]
    assert (gains["pass@1"]["gain"], gains["pass@2"]["gain"]) == (0.5, 0.0)
    assert not [key for key in compare_paired(half[::2], whole[::2])["all"] if key.startswith("pass@")]


def test_gain_is_split_into_form_and_reasoning(tmp_path):
    """Before: ten right in bad form, five right. After: fifteen right in good form, and two more."""

    def before(prompt, sample):
        n = number(prompt)
        return good(prompt, sample) if n < 5 else f"it is {2 * n}" if n < 15 else "no"

    def after(prompt, sample):
        return good(prompt, sample) if number(prompt) < 17 else "no"

    base, now = (run_suite(ScriptedGenerator(script), Sums(), tmp_path / script.__name__) for script in (before, after))
    gain = compare_paired(base.items, now.items)["all"]
    assert (gain["gain"], gain["lenient_gain"], gain["form_gain"]) == pytest.approx((0.6, 0.1, 0.5))
    assert (gain["won"], gain["lost"]) == (12, 0)
    assert gain["p"] == pytest.approx(2 / 2**12)
    assert gain["boot_low"] < gain["gain"] < gain["boot_high"]
    assert base.scores["all"]["found"] == 0.75


def test_stop_strings_and_limits_of_a_script():
    (cut,), (ended,) = ScriptedGenerator(lambda p, n: p.text).generate(
        [Prompt("a b c d e f g"), Prompt("a b. c")], Sampling(max_tokens=5, stop=(".",))
    )
    assert (cut.text, cut.truncated, cut.tokens) == ("a b c d e", True, 5)
    assert (ended.text, ended.truncated) == ("a b.", False)


# ---------------------------------------------------------------- data


def test_sources_say_what_is_wrong(tmp_path):
    good_file = tmp_path / "good.jsonl"
    good_file.write_text('{"a": 1}\n{"a": 2}\n')
    data = read_data("mine", good_file, ("a",))
    assert (data.rows, len(data.sha256)) == (({"a": 1}, {"a": 2}), 64)
    (tmp_path / "list.json").write_text('[{"a": 1}]')
    assert read_data("mine", tmp_path / "list.json").rows == ({"a": 1},)
    for name, text, said in (
        ("bad.jsonl", "{", "cannot be read"),
        ("empty.jsonl", "", "holds no questions"),
        ("numbers.json", "[1]", "holds no questions"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(EvaluationError, match=said):
            read_data("mine", tmp_path / name)
    with pytest.raises(EvaluationError, match="has no 'b'"):
        read_data("mine", good_file, ("a", "b"))
    with pytest.raises(EvaluationError, match="there is no file"):
        read_data("mine", "./nowhere.jsonl")
    with pytest.raises(EvaluationError, match=r"some/set cannot be fetched from the hub .* give a local file"):
        read_data("mine", "some/set")  # tests are offline


def test_shipped_questions_are_whole():
    files = {
        "cruxeval": 800,
        "HumanEvalPlus": 164,
        "HumanEvalPlus-Mini": 164,
        "MbppPlus": 378,
        "math500": 500,
        "gsm8k_test": 1319,
    }
    assert {file: len(read_data(file, shipped=f"{file}.jsonl.gz").rows) for file in files} == files


def test_replies_survive_as_they_were(tmp_path):
    odd = 'tab\t_quote"_newline\n_\u2028_\x1f_\x85_emoji🧮'
    run_suite(ScriptedGenerator(lambda prompt, sample: odd), Sums(count=2), tmp_path)
    assert [item.text for item in read_result(tmp_path, "sums").items] == [odd, odd]
