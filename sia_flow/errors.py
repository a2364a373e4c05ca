"""The vocabulary of failures.

Every message says what was wrong, where, and what to do. A candidate's failure is never an exception: it is a
result with a reason (`Outcome.status`, `Verdict.reason`). What is raised here concerns the user's input or the
machine.
"""

from __future__ import annotations


class SiaFlowError(Exception):
    """Base of every error that sia-flow raises on purpose; the command line prints it without a traceback."""

    exit_code = 1


class SpecError(SiaFlowError):
    """A spec, an override or a task folder does not say what it must; carries file and line in its message."""

    exit_code = 3


class TaskError(SpecError):
    """A task folder is missing, incomplete or contradicts its contract."""


class VerifierError(TaskError):
    """A task's verifier fails by itself, whatever the answer is, or on one answer after the other."""

    def __init__(self, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        """Name of the exception that the verifier raised."""


class StoreError(SiaFlowError):
    """The lineage store cannot be read or written, or is of a newer version."""

    exit_code = 4


class LockedError(SiaFlowError):
    """Another process holds the experiment."""

    exit_code = 5


class IsolationError(SiaFlowError):
    """The machine cannot isolate untrusted code at the level that the spec asks for."""

    exit_code = 6


class InfrastructureError(SiaFlowError):
    """Something outside the experiment failed (a server, a process, a disk); worth a retry, never scored."""

    exit_code = 7


class TrainingError(SiaFlowError):
    """A weight update cannot start or go on; the last good adapter is kept."""

    exit_code = 8


class ScaffoldError(SiaFlowError):
    """A scaffold cannot be read or edited as asked; nothing was changed."""

    exit_code = 9


class ProviderError(SiaFlowError):
    """A model's provider refuses what the spec asks of it: the key, the model, a feature of the request."""

    exit_code = 10


class BudgetSpentError(SiaFlowError):
    """The next paid call might pass a cap of the budget; it was not made."""

    exit_code = 11

    def __init__(self, limit: str, message: str) -> None:
        super().__init__(message)
        self.limit = limit
        """The key of the spec that names the cap: `budget.usd`, say."""
        self.usd = 0.0
        """What the step that it ended had cost so far."""


class NotApprovedError(SiaFlowError):
    """A person refused a pull, or nobody allowed it in time; the arm ends in order, with its best so far."""

    exit_code = 13

    def __init__(self, reason: str, question: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        """`approval.refused` or `approval.timeout`."""
        self.question = question
        """Id of what was asked."""


class SealedError(SiaFlowError):
    """The sealed split would be read where it must not, or once more than it may."""

    exit_code = 12


class Interrupted(SiaFlowError):  # noqa: N818 - the user's word, not a fault
    """The user asked to stop; everything up to the last finished step is stored."""

    exit_code = 130
