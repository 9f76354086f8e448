"""Memory that was freed goes back to the system."""

import psutil

from response_generator.generation.continuous_batching import return_freed_memory


def test_gaps_between_used_blocks_are_given_back():
    block = 64 * 1024  # bytes; larger ones may be mapped singly, and then leave no gap
    blocks = [bytearray(block) for _ in range(2000)]
    kept = blocks[::10]
    del blocks
    process = psutil.Process()
    before = process.memory_info().rss
    return_freed_memory()
    assert before - process.memory_info().rss > 0.5 * 2000 * block
    assert all(len(each) == block for each in kept)
