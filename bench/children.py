# SPDX-License-Identifier: Apache-2.0
"""children.py - a run that is broken off leaves nothing behind.

    with children.ended_with_us(): ...

SIGTERM is as Ctrl-C in the block: both leave it as KeyboardInterrupt.  When it has ended, however, so has all that was
started in it, and what that has started: a broker lives in a session of its own, a server is started before anybody can
have noted its number, and an interrupt may come between any two lines.  So nobody keeps a list: who loses its parent becomes
our child, and our children are looked up.
"""

import contextlib
import ctypes
import os
import signal
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36


def living():
    return [int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]


@contextlib.contextmanager
def ended_with_us():
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1)  # an old kernel refuses: then only children end
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        while pids := living():  # those of a child become ours when it ends
            for pid in pids:
                with contextlib.suppress(ProcessLookupError, ChildProcessError):
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
