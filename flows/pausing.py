"""An arm that waits for a person, as Prefect shows it: its flow run is Paused, and Resume on its page is a yes.

Invariant: only a run that was really paused can be resumed, so that a server which is away or refuses never says yes.
The flow of the arm pauses, not the one above it: Prefect suspends no flow within a flow, and a run of a deployment that
pauses would give its place to the next.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State, StateType
from prefect.exceptions import PrefectException
from prefect.runtime import flow_run
from prefect.states import Paused

from sia_flow.loop.stopping import Stop

LOOK_SECONDS = 2.0
"""Between two looks at the flow's state."""
AWAY = (httpx.HTTPError, PrefectException, OSError)


@contextmanager
def paused(stop: Stop, text: str) -> Iterator[Callable[[], bool]]:
    """Pause the innermost flow run for the block; a cancellation of it asks for a stop."""
    run_id = UUID(flow_run.id)
    with get_client(sync_client=True) as client:
        held = _pause(client, run_id, text)
        looked = time.monotonic()

        def resumed() -> bool:
            nonlocal held, looked
            if not held or time.monotonic() - looked < LOOK_SECONDS:
                return False
            looked = time.monotonic()
            state = _state(client, run_id)
            if state is None or state.is_paused():
                return False
            held = False
            if state.is_running():
                return True
            stop.ask()
            return False

        try:
            yield resumed
        finally:
            if held:
                with suppress(*AWAY):
                    client.resume_flow_run(run_id)


def _pause(client: SyncPrefectClient, run_id: UUID, text: str) -> bool:
    """Set the state; say whether the server took it."""
    with suppress(*AWAY):
        wanted: State[object] = Paused(message=text)
        taken = client.set_flow_run_state(run_id, wanted).state
        return taken is not None and taken.type == StateType.PAUSED
    return False


def _state(client: SyncPrefectClient, run_id: UUID) -> State[object] | None:
    with suppress(*AWAY):
        return client.read_flow_run(run_id).state
    return None
