"""Rows that kill: a module put on PYTHONPATH as `sitecustomize` makes a process of the run die,
hang or swell when it meets one. The product knows nothing of it.
"""

from __future__ import annotations

from pathlib import Path

_CODE = """
import ctypes, os, signal, sys

command = " ".join(sys.orig_argv)


def suffer(name):
    if "segv" in name:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "kill" in name:
        os.kill(os.getpid(), signal.SIGKILL)
    if "hang" in name:
        ctypes.PyDLL(None).sleep(100000)  # in C, with the interpreter's lock held
    if "swell" in name:
        hoard = []
        while True:
            hoard.append(bytearray(1 << 24))


if "worker.media.decoder_main" in command:
    from worker.media import clip

    read_clip = clip.read_clip

    def read_poison(path, *rest):
        if path.name.startswith("decoder-"):
            suffer(path.name)
        return read_clip(path, *rest)

    clip.read_clip = read_poison
elif "worker.consumer" in command:
    from worker.media.prepare import MediaPreparer

    prepare = MediaPreparer.prepare

    def prepare_poison(self, name):
        if name.startswith("child-"):
            suffer(name)
        return prepare(self, name)

    MediaPreparer.prepare = prepare_poison
elif "worker.engine.rank" in command:
    from worker.engine.server import EngineServer

    accept = EngineServer._accept

    def accept_poison(self, client, request):
        if request.request_id.startswith("engine-"):
            suffer(request.request_id)
        accept(self, client, request)

    EngineServer._accept = accept_poison
"""


def poisoned_path(folder: Path) -> str:
    """A value for PYTHONPATH. Media called decoder-*, child-* and rows called engine-* then do what
    their names say: segv, kill, hang or swell."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_CODE, encoding="utf-8")
    return str(folder)
