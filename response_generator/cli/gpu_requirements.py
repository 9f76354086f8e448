"""Checks what torch and Triton need to use an NVIDIA GPU, before anything is downloaded or loaded."""

import ctypes
import importlib.util
import os
import re
import shutil
import sys
import sysconfig
from pathlib import Path

DRIVER_FILE = Path("/dev/nvidiactl")  # exists when the driver runs, even if torch cannot use the GPU
HIDING_VALUES = ("", "-1", "NoDevFiles")  # values of CUDA_VISIBLE_DEVICES that hide every GPU


def find_gpu_errors() -> list[str]:
    """Returns why the GPU of this machine cannot be used; no errors when there is no GPU or it is hidden."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in HIDING_VALUES or os.environ.get("UNSLOTH_FORCE_CPU") == "1"
    errors = [] if hidden or not DRIVER_FILE.exists() else find_driver_errors() + find_compiler_errors()
    return [f"{message}; to run on the CPU, hide the GPU: CUDA_VISIBLE_DEVICES=" for message in errors]


def find_driver_errors() -> list[str]:
    """Checks that the driver fits torch: with a driver too old, torch would only warn and run on the CPU."""
    torch_version, driver_version = read_torch_cuda_version(), query_driver_cuda_version()
    if torch_version is None:
        return ["GPU: the installed torch is built without CUDA; install it again: pip install -r requirements.txt"]
    if driver_version is None:
        return [
            "GPU: there is a GPU, but its driver library libcuda.so.1 cannot be used; check with nvidia-smi; start a "
            "container with access to the GPU (docker run --gpus all)"
        ]
    major, minor = driver_version // 1000, driver_version % 1000 // 10
    if major >= int(torch_version.split(".")[0]):
        return []  # minor version compatibility of NVIDIA: the same or a newer major version works
    return [
        f"GPU: the driver is too old: it supports CUDA {major}.{minor}, the installed torch needs CUDA "
        f"{torch_version}; update the NVIDIA driver (CUDA 13 needs 580 or newer; Debian and Ubuntu: apt-get install "
        f"nvidia-driver; conda cannot install it)"
    ]


def read_torch_cuda_version() -> str | None:
    """Returns the CUDA version that torch was built for, for example "13.0", without importing torch."""
    package = importlib.util.find_spec("torch").submodule_search_locations[0]
    match = re.search(r"^cuda\b.*=\s*'([\d.]+)'", Path(package, "version.py").read_text(encoding="utf-8"), re.M)
    return match[1] if match else None


def query_driver_cuda_version() -> int | None:
    """Returns the newest CUDA version that the driver supports, as 1000 * major + 10 * minor; None if unknown."""
    version = ctypes.c_int()
    try:
        status = ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    except (OSError, AttributeError):
        return None
    return version.value if status == 0 else None


def find_compiler_errors() -> list[str]:
    """Checks for a C compiler and Python headers: Triton needs both at its first kernel (triton/runtime/build.py)."""
    errors = []
    compiler = os.environ.get("CC")
    if not any(map(shutil.which, [compiler] if compiler else ["gcc", "clang"])):
        errors.append(
            f"GPU: Triton needs a C compiler, and there is no {compiler or 'gcc and no clang'}; Debian and Ubuntu: "
            f"apt-get install gcc; conda: conda install -c conda-forge c-compiler, then activate the environment again"
        )
    scheme = sysconfig.get_default_scheme()
    folder = Path(sysconfig.get_paths("posix_prefix" if scheme == "posix_local" else scheme)["include"])
    if not (folder / "Python.h").is_file():
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        errors.append(
            f"GPU: Triton needs the headers of this Python, and {folder} holds no Python.h; Debian and Ubuntu: apt-get "
            f"install python{version}-dev; conda: create .venv with conda's Python, which includes them"
        )
    return errors
