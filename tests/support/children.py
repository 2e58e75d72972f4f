"""Child processes of the tests."""

import signal


def with_default_signals() -> None:
    """For `preexec_fn`: SIGINT and SIGHUP as a terminal's foreground process has them.

    Behind `&` in a script, or under `nohup`, pytest itself and so its children would ignore them.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
