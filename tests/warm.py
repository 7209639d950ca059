"""Child processes that find torch and its company imported, which takes seven seconds of a core: forks of a process that
has imported them, and nothing else. What a child then runs is `python -m MODULE WORDS` all the same.
"""

import atexit
import multiprocessing
import os
import runpy
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from azr_lite.environment import free_port

ROOT = Path(__file__).parents[1]
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["trl.trainer.grpo_trainer", "transformers.trainer", "peft", "accelerate", "datasets"])


class Child:
    """What one needs of `subprocess.Popen`. Both outputs are one pipe, read as text."""

    def __init__(self, *words, module="azr_lite", env=None):
        reader, writer = FORKS.Pipe(duplex=False)
        given = {**os.environ, **(env or {})}
        self.process = FORKS.Process(target=_main, args=(module, [*map(str, words)], given, writer))
        self.process.start()
        writer.close()
        self.pid, self.reader, self.printed = self.process.pid, reader, b""

    @property
    def returncode(self):
        return self.process.exitcode

    def poll(self):
        return self.process.exitcode

    def communicate(self, timeout=240):
        """All that it printed, once it has ended, and None; subprocess.TimeoutExpired where it does not end."""
        until = time.monotonic() + timeout
        while select.select([self.reader], [], [], max(0.0, until - time.monotonic()))[0]:
            if not (piece := os.read(self.reader.fileno(), 65536)):
                self.process.join()
                return self.printed.decode(errors="replace"), None
            self.printed += piece
        raise subprocess.TimeoutExpired("a warm child", timeout, self.printed)

    def send_signal(self, number):
        os.kill(self.pid, number)

    def kill(self):
        self.process.kill()


def together(*words, module="azr_lite", count=2, timeout=240, **variables):
    """As a launcher starts them (0: as none does): the first exit status that is not 0, else 0; and all they printed."""
    of_all = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    own = [of_all | {"RANK": rank, "LOCAL_RANK": rank} for rank in range(count)] or [{}]
    envs = [{"CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true", **one, **variables} for one in own]
    children = [Child(*words, module=module, env={k: str(v) for k, v in env.items()}) for env in envs]
    printed = "".join(child.communicate(timeout)[0] for child in children)
    return next((child.returncode for child in children if child.returncode), 0), printed


def _main(module, words, env, writer):
    """In the fork."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(writer.fileno(), 1)
    os.dup2(writer.fileno(), 2)
    writer.close()
    # the old ones may have been of a file
    sys.stdout, sys.stderr = (open(number, "w", 1, "utf-8", closefd=False) for number in (1, 2))  # noqa: SIM115
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(env)
    sys.path[:0], sys.argv = [str(ROOT)], [module, *words]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # which the end of a fork leaves out
