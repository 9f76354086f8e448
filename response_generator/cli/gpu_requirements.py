"""What an NVIDIA card needs before torch and Triton can use it, told before anything is downloaded or loaded."""

import ctypes
import importlib.util
import os
import re
import shutil
import sys
import sysconfig
from pathlib import Path

DRIVER_FILE = Path("/dev/nvidiactl")  # there as soon as the driver runs, whatever torch thinks of it
HIDING_VALUES = ("", "-1", "NoDevFiles")  # values of CUDA_VISIBLE_DEVICES that show no card


def find_gpu_errors() -> list[str]:
    """Why the card of this machine could not be used; empty where there is none, or where it is hidden."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in HIDING_VALUES or os.environ.get("UNSLOTH_FORCE_CPU") == "1"
    found = [] if hidden or not DRIVER_FILE.exists() else find_driver_errors() + find_compiler_errors()
    return [f"{message}; to run on the processor, hide the card: CUDA_VISIBLE_DEVICES=" for message in found]


def find_driver_errors() -> list[str]:
    """A driver too old for torch: torch would only warn, and the run would go on without the card."""
    built_for, driver = read_torch_cuda_version(), query_driver_cuda_version()
    if built_for is None:
        return ["GPU: the installed torch is built without CUDA; install it again: pip install -r requirements.txt"]
    if driver is None:
        return [
            "GPU: there is a card, but its driver library libcuda.so.1 cannot be used; check with nvidia-smi, and in a "
            "container start that with the card (docker run --gpus all)"
        ]
    major, minor = driver // 1000, driver % 1000 // 10
    if major >= int(built_for.split(".")[0]):
        return []  # NVIDIA's minor version compatibility: any driver of the same major version will do
    return [
        f"GPU: the driver is too old: it runs CUDA {major}.{minor}, the installed torch needs CUDA {built_for}; update "
        f"the NVIDIA driver (CUDA 13 needs 580 or newer; Debian and Ubuntu: apt-get install nvidia-driver, conda "
        f"cannot do it)"
    ]


def read_torch_cuda_version() -> str | None:
    """The CUDA version that torch was built for, for example "13.0", without importing torch."""
    package = importlib.util.find_spec("torch").submodule_search_locations[0]
    written = re.search(r"^cuda\b.*=\s*'([\d.]+)'", Path(package, "version.py").read_text(encoding="utf-8"), re.M)
    return written[1] if written else None


def query_driver_cuda_version() -> int | None:
    """The newest CUDA version that the driver runs, as 1000 * major + 10 * minor; None where it cannot be asked."""
    version = ctypes.c_int()
    try:
        status = ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    except (OSError, AttributeError):
        return None
    return version.value if status == 0 else None


def find_compiler_errors() -> list[str]:
    """Triton compiles a C file against Python's headers before its first kernel (triton/runtime/build.py)."""
    found = []
    named = os.environ.get("CC")
    if not any(map(shutil.which, [named] if named else ["gcc", "clang"])):
        found.append(
            f"GPU: Triton needs a C compiler, and there is no {named or 'gcc and no clang'}; Debian and Ubuntu: "
            f"apt-get install gcc; conda: conda install -c conda-forge c-compiler, then activate the environment again"
        )
    scheme = sysconfig.get_default_scheme()
    folder = Path(sysconfig.get_paths("posix_prefix" if scheme == "posix_local" else scheme)["include"])
    if not (folder / "Python.h").is_file():
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        found.append(
            f"GPU: Triton needs the headers of this Python, and {folder} holds no Python.h; Debian and Ubuntu: apt-get "
            f"install python{version}-dev; conda: its own Python brings them, make .venv with that"
        )
    return found
