"""How a language model fails as an agent: each by a name that the record keeps."""

from __future__ import annotations

from typing import Literal

from sia_flow.errors import SiaFlowError

Code = Literal["refusal", "schema", "edit", "turns", "length", "context"]


class AgentFailedError(SiaFlowError):
    """The model gave no answer that can be used; what it was asked for is done without it, or not at all."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        """`refusal`, `schema` (broken twice), `edit` (none applies), `turns`, `length` or `context`."""
