"""What a request of the policy must be, wherever it is sampled."""

from __future__ import annotations

import math

from sia_flow.protocols import RequestError, SampleRequest


def check_request(request: SampleRequest, room: int) -> None:
    """Raise RequestError for a request that a model with `room` positions cannot answer."""
    if request.n < 1 or not 1 <= request.max_tokens < room:
        raise RequestError(f"n must be at least 1 and max_tokens in 1..{room - 1}: {request.n}, {request.max_tokens}")
    if not (math.isfinite(request.temperature) and request.temperature >= 0):
        raise RequestError(f"temperature must be finite and not negative: {request.temperature}")
