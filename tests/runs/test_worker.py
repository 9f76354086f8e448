"""A function in a new process: its result, its exceptions, and that the process never outlives the one that called."""

import multiprocessing
import os
import signal
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool

import psutil
import pytest
from conftest import ROOT
from script_process import HANG_SECONDS

from response_generator.config.strict_json import read_object
from response_generator.errors import InputError
from response_generator.runs.worker import call_in_new_process

CALL = (
    "import signal, sys; import waiting_worker; from response_generator.runs.worker import call_in_new_process\n"
    "if __name__ == '__main__':\n"
    "    signal.signal(signal.SIGTERM, signal.default_int_handler)\n"
    "    try:\n"
    "        call_in_new_process(waiting_worker.tell_and_wait, sys.argv[1])\n"
    "    except KeyboardInterrupt:\n"
    "        print('stopped')"
)
WORKER = (
    "import os, signal\n"
    "def tell_and_wait(fifo):\n"
    "    with open(fifo, 'w') as told:\n"
    "        told.write(str(os.getpid()))\n"
    "    signal.pause()"
)


@pytest.fixture
def called(tmp_path):
    """A process, in a process group of its own, that waits for its worker, and the worker."""
    (tmp_path / "caller.py").write_text(CALL, encoding="utf-8")
    (tmp_path / "waiting_worker.py").write_text(WORKER, encoding="utf-8")
    os.mkfifo(tmp_path / "fifo")
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "caller.py"), str(tmp_path / "fifo")],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    worker = psutil.Process(int((tmp_path / "fifo").read_text(encoding="utf-8")))
    assert worker.ppid() == process.pid
    yield process, worker
    process.kill()
    process.communicate()


def test_the_worker_ends_when_its_caller_is_killed(called):
    process, worker = called
    process.kill()
    assert psutil.wait_procs([worker], HANG_SECONDS)[1] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_both_is_left_to_the_caller_which_ends_the_worker(called, number):
    process, worker = called
    os.killpg(process.pid, number)
    assert process.communicate(timeout=HANG_SECONDS) == ("stopped\n", "")
    assert not worker.is_running()


def test_results_and_exceptions_come_back(tmp_path):
    assert call_in_new_process(divmod, 7, 2) == (3, 1)
    with pytest.raises(InputError, match="none.json: cannot be read"):
        call_in_new_process(read_object, tmp_path / "none.json")
    with pytest.raises(BrokenProcessPool):
        call_in_new_process(os._exit, 0)
    assert multiprocessing.active_children() == []
