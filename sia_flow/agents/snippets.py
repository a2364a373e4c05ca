"""The source texts that structural edits put into a scaffold, in the scaffold's own names.

They expect `Job`, `ASK`, `TEMPERATURE`, `prompt(job)`, `extract(text)`, `assemble(function)`,
`propose(job, question)` and `solve(job)` of the reference scaffold.
"""

from __future__ import annotations

JUDGE = '''
def judge(job: Job, program: str) -> dict[str, Any]:
    """Score a program on the visible counts; without a score it counts as valid and worth nothing."""
    try:
        return job.tools.score_visible(program=program)
    except (AttributeError, RuntimeError):
        return {"reward": 0.0, "valid": True, "reason": "ok"}
'''

CANDIDATES = "CANDIDATES: int = 3  # 2..4"

PROPOSE_BEST = '''
def propose(job: Job, question: str) -> str:
    """Ask for several programs at once and return the best on the visible counts."""
    messages = [{"role": "user", "content": question}]
    texts = job.generate(messages, n=CANDIDATES, temperature=TEMPERATURE)
    programs = list(dict.fromkeys(assemble(extract(text)) for text in texts))
    verdicts = [judge(job, program) for program in programs]
    best = max(range(len(programs)), key=lambda i: (verdicts[i]["valid"], verdicts[i]["reward"]))
    return programs[best]
'''

RETRIES = "RETRIES: int = 1  # 1..3"

RETRY = '''
def retry(job: Job, program: str) -> str:
    """Ask again, naming the reason, as long as the program fails on the visible counts."""
    for _ in range(RETRIES):
        verdict = judge(job, program)
        if verdict["valid"]:
            break
        program = propose(job, f"{ASK}\\nFailed: {verdict['reason']}")
    return program
'''

ROUNDS = "ROUNDS: int = 1  # 1..4"

REFINE = '''
def refine(job: Job, program: str) -> str:
    """Show the program as an example, and keep what comes back where it does better on the visible counts."""
    kept = judge(job, program)
    for _ in range(ROUNDS):
        other = propose(job, f"{ASK}\\nExample:\\n{extract(program)}")
        verdict = judge(job, other)
        if (verdict["valid"], verdict["reward"]) > (kept["valid"], kept["reward"]):
            program, kept = other, verdict
    return program
'''

BEGIN = '''
def begin(job: Job, question: str) -> str:
    """Show the program that this rollout starts from as an example, where it starts from one."""
    start = job.instance.get("start")
    return question if start is None else f"{ASK}\\nExample:\\n{extract(start)}"
'''

PROMPT_EXEMPLAR = '''
def prompt(job: Job) -> str:  # noqa: ARG001 - an edit may read the instance
    """Return what the policy is asked, with the best program so far as an example."""
    return f"{ASK}\\nExample:\\n{EXEMPLAR}"
'''
