"""Records for the agents' tests: an arm that grows by decisions, and a scaffold's job answered in process."""

import importlib.util
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

from sia_flow.agents.decision import Evidence
from sia_flow.canonical import digest
from sia_flow.lineage.records import (
    Decision,
    Edit,
    Generation,
    Isolation,
    Score,
    Spend,
    Trajectory,
    Trial,
    Verdict,
    WeightPlan,
)
from sia_flow.scaffold.constants import constant_values
from sia_flow.training import select

REFERENCE = {
    "scaffold.py": (Path(__file__).parents[2] / "tasks/denoise/scaffold/scaffold.py").read_text(encoding="utf-8")
}
FUNCTION = "def denoise(counts, seed):\n    return counts\n"
SE = 0.01
UNCHANGED = (Trial(name="as it was", constants={}, mean=0.1, se=SE, n=64),)


def rollouts(rewards=(0.0, 0.05, 0.05, 0.06, 0.07, 0.08, 0.09, 0.2), groups=2):
    """One trajectory and verdict for each reward and group; the reward 0 is an exception."""
    trajectories, verdicts = [], []
    for group in range(groups):
        for sample, reward in enumerate(rewards):
            answer = f"import numpy as np\n\n{FUNCTION}# {reward}\n"
            trajectories.append(Trajectory(instance=f"train-{group}", sample=sample, seed=sample, answer=answer))
            reason = "ok" if reward else "exception"
            verdicts.append(Verdict(reward=reward, valid=bool(reward), reason=reason, feedback="ValueError: bad"))
    return trajectories, verdicts


def score(split, mean, se=SE):
    return Score(split=split, n=128, mean=mean, se=se, best=mean + 0.1, valid=0.9)


def choose(rewards, valid, menu):
    """Choose by the training package's own table."""
    return select.choose(select.features(rewards, valid), menu)


@dataclass
class Arm:
    """An arm that grows as in the loop: an incumbent, a gate at one standard error, trials."""

    levers: tuple = ("harness", "weights")
    history: list = field(default_factory=list)
    files: dict = field(default_factory=dict)
    rewards: tuple = (0.0, 0.05, 0.05, 0.06, 0.07, 0.08, 0.09, 0.2)
    trials: int = 4
    menu: tuple = ("grpo", "entropic", "best_of_n_bc")
    first_tokens: int = 0
    """Sampled tokens of a rollout of the first generation, as its record has them."""
    best: str | None = "import numpy as np\n\n" + FUNCTION

    def __post_init__(self):
        self.add(None, 0.0, dict(REFERENCE))

    @property
    def incumbent(self):
        return [generation for generation in self.history if generation.accepted][-1]

    def evidence(self, **changes):
        trajectories, verdicts = rollouts(self.rewards)
        fields = {
            "levers": self.levers,
            "generation": self.history[-1],
            "incumbent": self.incumbent,
            "history": tuple(self.history),
            "scaffold": self.files[self.incumbent.id],
            "trajectories": trajectories,
            "verdicts": verdicts,
            "best_program": self.best,
            "menu": self.menu,
            "iterations": 40,
            "rates": lambda _algorithm: (1e-3, 0.02),
            "trials": self.trials,
            "seed": 7,
            "choose": choose,
        }
        return Evidence(**{**fields, **changes})

    def add(self, decision, gain, files, trials=(), se=SE):
        parent = self.incumbent if self.history else None
        select = (parent.select.mean if parent else 0.1) + gain
        accepted = parent is None or gain > se
        pulled = decision is not None and decision.lever == "weights"
        generation = Generation(
            id=digest([len(self.history), gain, parent.id if parent else None]),
            index=len(self.history),
            parent=parent.id if parent else None,
            seed=0,
            scaffold=digest(files),
            base="base",
            adapter=digest(["adapter", len(self.history)]) if pulled else parent.adapter if parent else None,
            data="data",
            verifier="verifier",
            decision=decision,
            train=score("train", select),
            select=score("select", select),
            accepted=accepted,
            verdict="kept" if accepted else "refused",
            gain=gain,
            gain_se=se if parent else 0.0,
            trials=trials,
            spend=Spend(rollouts=1, completion_tokens=0 if parent else self.first_tokens),
            isolation=Isolation(level=2, backend="bubblewrap"),
            trajectories="none",
        )
        self.history.append(generation)
        self.files[generation.id] = files
        return generation

    def apply(self, decision, gain, worth=lambda values: values["KNN"] / 1000):
        """Make the generation of a decision: alternatives are tried, the best by `worth` is taken."""
        files = dict(self.files[self.incumbent.id])
        tried = [{**files, **edit.files} for edit in decision.edits]
        values = [constant_values(option["scaffold.py"]) for option in tried]
        best = max(range(len(tried)), key=lambda i: worth(values[i]), default=0)
        trials = tuple(
            Trial(name=edit.name, constants=v, mean=worth(v), se=SE, n=64, chosen=i == best)
            for i, (edit, v) in enumerate(zip(decision.edits, values, strict=True))
        )
        return self.add(decision, gain, tried[best] if tried else files, trials)

    def play(self, agent, pulls, gain):
        """Let the agent decide `pulls` times, with `gain(decision, arm)` on select; return the levers."""
        for _ in range(pulls):
            decision = agent.decide(self.evidence())
            if decision.lever == "stop":
                return [*self.levers_pulled(), "stop"]
            self.apply(decision, gain(decision, self))
        return self.levers_pulled()

    def pull(self, lever, gain, kind="constants", plan=None):
        """Add a generation made by a pull of one lever: an edit that changes nothing, or an update by `plan`."""
        edits = (Edit(kind=kind, name="as it was", summary="", files={}),) if lever == "harness" else ()
        plan = plan or WeightPlan(algorithm="grpo", iterations=40, learning_rate=1e-3, kl=0.02)
        weights = plan if lever == "weights" else None
        decision = Decision(lever=lever, reason="", forecast=0.02, edits=edits, weights=weights)
        return self.add(decision, gain, dict(self.files[self.incumbent.id]), UNCHANGED)

    def levers_pulled(self):
        return [generation.decision.lever for generation in self.history if generation.decision]


class Job:
    """A job whose policy answers from a list, and whose tool knows the reward of each function."""

    def __init__(self, answers, rewards=None):
        self.answers = list(answers)
        self.rewards = rewards
        self.instance, self.seed = {"id": "train-0"}, 3
        self.asked = []
        self.scored = []
        self.tools = SimpleNamespace(**({} if rewards is None else {"score_visible": self.score_visible}))

    def generate(self, messages, n=1, temperature=1.0, max_tokens=None):
        self.asked.append((messages[0]["content"], n, temperature))
        return [self.answers.pop(0) for _ in range(n)]

    def score_visible(self, *, program):
        self.scored.append(program)
        for text, verdict in self.rewards.items():
            if text in program:
                return {"reward": verdict, "valid": True, "reason": "ok", "feedback": ""}
        return {"reward": 0.0, "valid": False, "reason": "syntax", "feedback": ""}


def solve(source, job):
    """Run a scaffold's source on a job, in this process."""
    spec = importlib.util.spec_from_loader("candidate", loader=None)
    module = importlib.util.module_from_spec(spec)
    sys.modules["candidate"] = module
    try:
        exec(compile(source, "scaffold.py", "exec"), module.__dict__)
        return module.solve(job)
    finally:
        del sys.modules["candidate"]
