"""Memory that was freed, but that the C library keeps."""

import ctypes


def return_freed_memory() -> None:
    """Gives freed memory back to the system, where the C library can (glibc).

    glibc keeps it in gaps between blocks that are still used, and tensors of other sizes do not fit into these.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
