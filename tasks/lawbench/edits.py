"""The structural edits that the builtin agent knows for this task: retrieval, candidate lists, voting.

Each is a rewrite of one function of the reference scaffold; none reads a label.
"""

from __future__ import annotations

from sia_flow.verify.edits import TaskEdit

FIND = '''
def find(job: Job) -> Sequence[Candidate]:
    """Return the candidates of the SVC, likeliest first."""
    return job.tools.candidates(tool="svc", count=COUNT)
'''

BLEND = '''
def find(job: Job) -> Sequence[Candidate]:
    """Return the candidates, likeliest first by the weighted scores of all tools."""
    weights = {"kernel": 1.0, "svc": SVC, "centroid": CENTROID, "nearest": NEAREST}

    def total(candidate: Candidate) -> float:
        return sum(weight * candidate["scores"][tool] for tool, weight in weights.items())

    found = job.tools.candidates(tool="kernel", count=2 * COUNT)
    return sorted(found, key=total, reverse=True)[:COUNT]
'''

CLEAR = '''
def choose(job: Job, found: Sequence[Candidate]) -> Candidate:
    """Return the first candidate where the tools are clear about it, else the one that the policy names."""
    first, second = (sum(candidate["scores"].values()) / len(TOOLS) for candidate in found[:2])
    return found[0] if first - second > MARGIN else pick(found, ask(job, prompt(job, found))[0])
'''

VOTE = '''
def choose(job: Job, found: Sequence[Candidate]) -> Candidate:
    """Return the candidate that most of several answers name, the likelier one of two."""
    picked = [pick(found, text)["label"] for text in ask(job, prompt(job, found), n=VOTES)]
    return max(found, key=lambda candidate: picked.count(candidate["label"]))
'''

NAMES = '''
def row(found: Sequence[Candidate], number: int) -> str:
    """Return a candidate's line of the table, with the charge's name."""
    letters = "".join(letter(found, found[number], tool) for tool in TOOLS)
    return f"{number + 1}{letters}{found[number]['label'][:6]}"
'''


def edits() -> tuple[TaskEdit, ...]:
    """Return the edits, those of retrieval first."""
    return (*_retrieval(), *_asking())


def _retrieval() -> tuple[TaskEdit, ...]:
    return (
        TaskEdit(
            "svc",
            "Take the candidates from the linear SVC.",
            "nothing",
            ("Candidate", "COUNT", "Job", "find"),
            {"find": FIND},
            gain=0.05,
        ),
        TaskEdit(
            "blend",
            "Rank twice as many candidates by a weighted sum of all tools' scores.",
            "nothing",
            ("Candidate", "COUNT", "Job", "find"),
            {"find": BLEND},
            constants=("SVC: float = 0.5  # 0..2", "CENTROID: float = 0.5  # 0..2", "NEAREST: float = 0.1  # 0..2"),
            gain=0.1,
        ),
    )


def _asking() -> tuple[TaskEdit, ...]:
    return (
        TaskEdit(
            "clear",
            "Ask the policy only where the tools are not clear about the first candidate.",
            "nothing; the policy is asked less",
            ("Candidate", "Job", "TOOLS", "ask", "choose", "pick", "prompt"),
            {"choose": CLEAR},
            constants=("MARGIN: float = 1.0  # 0.2..4",),
            gain=0.3,
        ),
        TaskEdit(
            "vote",
            "Ask for several answers and take the one that most of them name.",
            "five one-token completions of one prompt",
            ("Candidate", "Job", "ask", "choose", "pick", "prompt"),
            {"choose": VOTE},
            constants=("VOTES: int = 5  # 3..15",),
            samples=5.0,
            gain=0.2,
        ),
        TaskEdit(
            "names",
            "Show the name of each candidate's charge in the table.",
            "a longer prompt",
            ("Candidate", "TOOLS", "letter", "row"),
            {"row": NAMES},
            gain=0.03,
        ),
    )
