"""For tests that send Ctrl-C to processes of their own."""

import signal


def heed_interrupts():
    """For `preexec_fn`: what a shell starts in the background ignores Ctrl-C, and so do its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
