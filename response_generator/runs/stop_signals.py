"""The signals that stop a run so that it can go on later."""

import signal


def list_stop_signals() -> list[signal.Signals]:
    """Ctrl-C, SIGTERM, which clusters send, and SIGHUP, which a closed terminal sends, unless it is ignored, as under
    nohup."""
    signals = [signal.SIGINT, signal.SIGTERM]
    return signals if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [*signals, signal.SIGHUP]
