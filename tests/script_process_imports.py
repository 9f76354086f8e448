"""What the forkserver of `script_process` imports before it is forked."""

from response_generator.modeling.backend import import_backend

import_backend("unsloth")

from response_generator.programs import dpo_run, evaluation_run, sft_run  # noqa: E402, F401
