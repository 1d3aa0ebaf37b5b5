"""Ejected scripts in processes of their own, in which `import sheer` fails.

A server has imported what scripts import and forks for each, so that none costs a start of 3 s; it never computes, so that no
thread is lost in a fork.
"""

import atexit
import contextlib
import functools
import importlib
import json
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

BLOCK = "import sys; sys.modules['sheer'] = None; import runpy; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"


def run_fresh(script: Path, *arguments: object) -> subprocess.CompletedProcess:
    """Run the script as anybody would, from the start of Python."""
    command = [sys.executable, "-c", BLOCK, str(script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=script.parent, check=False)


def run_script(script: Path, *arguments: object) -> subprocess.CompletedProcess:
    """Run the script in a fork of the server."""
    server, command = _server(), [str(script), *map(str, arguments)]
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        server.stdin.write(json.dumps([str(out), str(err), *command]) + "\n")
        server.stdin.flush()
        status = int(server.stdout.readline())
        return subprocess.CompletedProcess(command, status, out.read_text(), err.read_text())


@functools.cache
def _server() -> subprocess.Popen:
    server = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(server.communicate)
    return server


def serve() -> None:
    del sys.path[0]  # this folder, which scripts know nothing of
    sys.modules["sheer"] = None
    for name in ("torch._dynamo", "torchvision", "timm", "safetensors.torch", "PIL.Image", "tqdm"):
        importlib.import_module(name)
    for line in sys.stdin:
        out, err, *arguments = json.loads(line)
        pid = os.fork()
        if pid == 0:
            for path, number in ((out, 1), (err, 2)):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
            status = 0
            try:
                os.chdir(Path(arguments[0]).parent)
                sys.argv = arguments
                runpy.run_path(arguments[0], run_name="__main__")
            except SystemExit as error:
                status = error.code if isinstance(error.code, int) else int(error.code is not None)
                print(error.code if isinstance(error.code, str) else "", file=sys.stderr)
            except BaseException:
                traceback.print_exc()
                status = 1
            with contextlib.suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    serve()
