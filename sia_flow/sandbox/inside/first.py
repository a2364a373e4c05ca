"""The first process of a container: the zygote's parent, which hangs on the keeper's life.

Invariant: when the keeper dies, however it dies, this process ends, and with it the kernel ends all that the container
holds. Podman itself gives no such word: its client may be killed and the container lives on.
"""

from __future__ import annotations

import os
import select

from . import zygote

_PODMANS_OWN = ("HOSTNAME", "TERM", "container")


def main(control: int, lifeline: int, *, may_nest: bool) -> None:
    """Fork the zygote; end when it has ended, or when nobody holds the other end of `lifeline` any more."""
    for name in _PODMANS_OWN:
        os.environ.pop(name, None)
    child = os.fork()
    if child == 0:
        os.close(lifeline)
        zygote.main(control, may_nest=may_nest, sealed=False)
        return
    os.close(control)
    poll = select.poll()
    for handle in (lifeline, os.pidfd_open(child)):
        poll.register(handle, select.POLLIN | select.POLLHUP)
    poll.poll()
    # Not exit: nothing may stand between this word and the end.
    os._exit(0)
