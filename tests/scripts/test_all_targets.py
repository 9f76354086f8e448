"""evaluate.py with a reply for each label, on the tiny models: killed, resumed, scored again, and its file."""

import signal

from conftest import evaluated_in, read_json, read_lines, write_rows
from script_runs import run_here
from script_process import HANG_SECONDS
from test_evaluate import replies_in
from test_interruptions import once
from tiny_models import EMOTION_LABELS, demo_rows

import evaluate
