"""What a training has freed goes back to the system before the next one begins, and programs of
shapes that do not come again are not kept.
"""

import os
import platform
import subprocess
import sys

import pytest

# Pieces that the library of C takes from its heap, with one behind them that stays: the heap
# cannot shrink by itself.
PROGRAM = """
import os
import psutil
from restmcts_trainer.memory import give_back_memory
pieces = [bytearray(100_000) for _ in range(2_000)]
stays = bytearray(100_000)
resident = psutil.Process().memory_info
before = resident().rss
del pieces
kept = resident().rss
give_back_memory()
print(before - kept, kept - resident().rss)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc_trim is a function of glibc")
def test_freed_memory_goes_back_to_the_system() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    by_itself, asked = map(int, done.stdout.split())
    assert by_itself < 20e6 and asked > 150e6


@pytest.mark.parametrize(("chosen", "used"), [(None, "32"), ("7", "7")])
def test_few_programs_of_matrix_products_are_kept_unless_somebody_wants_more(chosen: str | None, used: str) -> None:
    name = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
    environment = {key: value for key, value in os.environ.items() if key != name}
    if chosen is not None:
        environment[name] = chosen
    program = f"import sys, os, restmcts.modeling; print(os.environ['{name}'], 'torch' in sys.modules)"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == [used, "False"]
