import subprocess
import sys
from pathlib import Path

import pytest
import torch


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_device_against_the_cpu():
    """In a process of its own: the hook that checks shapes wraps what the compiler must read."""
    here = Path(__file__)
    command = [sys.executable, "-m", "pytest", "--noconftest", "-p", "no:cacheprovider", "-q"]
    done = subprocess.run(
        [*command, here.with_name("gpu_checks.py")],
        cwd=here.parents[1],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
