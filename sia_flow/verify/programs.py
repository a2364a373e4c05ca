"""Runs candidate programs in the sandbox and has their arrays scored on the host.

Invariants: a session holds the arrays of one instance and nothing else, for two divisions of the same
molecules in one memory would give the held-back ones away; each distinct program runs once an instance; a
verdict does not depend on what else was scored.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

import numpy as np

from sia_flow.canonical import derive_seed, digest
from sia_flow.errors import InfrastructureError
from sia_flow.lineage.records import Verdict
from sia_flow.protocols import BatchVerifier, Instance, Job, Limits, Outcome, Sandbox, Session, Verifier
from sia_flow.verify.task import Task, array_name

MAX_CHARACTERS = 1 << 16
MAX_SESSIONS = 16

REASONS = {
    "NONZERO": "crash",
    "SIGNAL": "crash",
    "TIMEOUT": "timeout",
    "CPU": "cpu",
    "MEMORY": "memory",
    "OUTPUT_FLOOD": "output_flood",
    "RESULT_TOO_BIG": "bad_result",
    "BAD_RESULT": "bad_result",
    "BAD_SHAPE": "bad_shape",
    "SYNTAX": "syntax",
    "EXCEPTION": "exception",
}


class ProgramScorer:
    """Scores programs of one task. A context manager; `close` ends its sandboxes.

    `memo` maps keys to verdicts and may be handed to another scorer, so that a step that goes on after a
    kill verifies nothing twice. Raises InfrastructureError where the sandbox itself fails.
    """

    def __init__(
        self,
        task: Task,
        verifier: Verifier,
        sandbox: Sandbox,
        limits: Limits | None = None,
        workers: int = 2,
        memo: Mapping[str, Verdict] | None = None,
    ) -> None:
        self.task = task
        self.verifier = verifier
        self.memo: dict[str, Verdict] = dict(memo or {})
        self.verifications = 0
        """Programs that really ran."""
        self._sandbox = sandbox
        self._limits = limits or Limits()
        self._workers = workers
        self._sessions: dict[str, Session] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def score(self, items: Sequence[tuple[Instance, str | None]]) -> list[Verdict]:
        """Return the verdict of each (instance, answer), in order; an answer of None is a missing one."""
        waiting: dict[str, dict[str, str]] = {}
        instances = {instance.id: instance for instance, _ in items}
        for key, (instance, program) in self.missing(items).items():
            waiting.setdefault(instance.id, {})[key] = program
        for name, missing in waiting.items():
            self.memo.update(self._run(instances[name], missing))
        programs = [None if answer is None else normalize(answer) for _, answer in items]
        return [
            Verdict(
                reward=self.verifier.floor,
                valid=False,
                reason="no_answer",
                feedback="no program was handed in",
            )
            if program is None
            else self.memo[self.key(instance, program)]
            for (instance, _), program in zip(items, programs, strict=True)
        ]

    def missing(self, items: Sequence[tuple[Instance, str | None]]) -> dict[str, tuple[Instance, str]]:
        """Return memo key -> (instance, normalised program) of each of (instance, answer) that is not in the memo."""
        found = {}
        for instance, answer in items:
            if answer is not None and (key := self.key(instance, program := normalize(answer))) not in self.memo:
                found[key] = (instance, program)
        return found

    def key(self, instance: Instance, program: str) -> str:
        """Return the memo key of a normalised program on an instance."""
        return digest([self.verifier.digest, self.verifier.data_digest, instance.id, program])

    def close(self) -> None:
        """End every sandbox; the memo stays."""
        while self._sessions:
            self._sessions.popitem()[1].close()

    def _run(self, instance: Instance, programs: Mapping[str, str]) -> dict[str, Verdict]:
        verdicts = {key: refused for key, text in programs.items() if (refused := self._refuse(text)) is not None}
        keys = [key for key in programs if key not in verdicts]
        if keys:
            jobs = [self._job(instance, programs[key]) for key in keys]
            outcomes = self._run_jobs(instance, jobs)
            self.verifications += len(jobs)
            verdicts |= dict(zip(keys, self._judge(instance, outcomes), strict=True))
        return verdicts

    def _run_jobs(self, instance: Instance, jobs: Sequence[Job]) -> list[Outcome]:
        try:
            return self._session(instance).run(jobs, self._limits)
        except InfrastructureError:
            if (broken := self._sessions.pop(instance.id, None)) is not None:
                broken.close()
            raise

    def _job(self, instance: Instance, program: str) -> Job:
        return Job(
            source=program,
            entry=self.task.manifest.answer.entry,
            arrays=tuple(array_name(instance, name) for name in instance.arrays),
            arguments=(program_seed(instance),),
            seed=program_seed(instance),
            returns=instance.returns,
        )

    def _session(self, instance: Instance) -> Session:
        session = self._sessions.pop(instance.id, None)
        if session is None:
            while len(self._sessions) >= MAX_SESSIONS:
                self._sessions.pop(next(iter(self._sessions))).close()
            session = self._sandbox.open(self.task.image([instance]), self._workers)
        self._sessions[instance.id] = session
        return session

    def _judge(self, instance: Instance, outcomes: Sequence[Outcome]) -> list[Verdict]:
        failed = {index: found for index, one in enumerate(outcomes) if (found := self._unscorable(one)) is not None}
        outputs = [one.value for index, one in enumerate(outcomes) if index not in failed]
        items = [(instance, output) for output in outputs if isinstance(output, np.ndarray)]
        if isinstance(self.verifier, BatchVerifier):
            scored = iter(self.verifier.score_all(items))
        else:
            scored = iter([self.verifier.score(*item) for item in items])
        return [failed[index] if index in failed else next(scored) for index in range(len(outcomes))]

    def _unscorable(self, outcome: Outcome) -> Verdict | None:
        """Return the verdict of a program that handed in no array."""
        if outcome.status != "OK":
            return self._failure(REASONS[outcome.status], outcome.error)
        if not isinstance(outcome.value, np.ndarray):
            return self._failure("bad_result", "the program returned no array")
        return None

    def _refuse(self, program: str) -> Verdict | None:
        if len(program) > MAX_CHARACTERS:
            return self._failure("too_long", f"the program is longer than {MAX_CHARACTERS} characters")
        _, fault = parse(program)
        return None if fault is None else self._failure("syntax", fault)

    def _failure(self, reason: str, feedback: str) -> Verdict:
        return Verdict(reward=self.verifier.floor, valid=False, reason=reason, feedback=feedback)


def normalize(program: str) -> str:
    """Return the program as `ast.unparse` spells it, so that layout and comments make no new program.

    A text that does not parse is returned as it is.
    """
    return parse(program)[0] if len(program) <= MAX_CHARACTERS else program


@functools.lru_cache(maxsize=8192)
def parse(program: str) -> tuple[str, str | None]:
    """Return the normalised program and None, or the program as it is and why it does not parse."""
    try:
        return ast.unparse(ast.parse(program)), None
    except SyntaxError as error:
        return program, f"line {error.lineno}: {error.msg}"
    except (ValueError, RecursionError, MemoryError) as error:
        return program, f"cannot be parsed: {type(error).__name__}"


def program_seed(instance: Instance) -> int:
    """Return the seed that programs are called with on an instance."""
    return derive_seed("program", instance.id) % 2**31
