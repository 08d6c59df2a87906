"""Helpers for tests that send Ctrl-C to processes that they start."""

import signal


def heed_interrupts():
    """For `preexec_fn`: processes that a shell starts in the background, and their children, ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
