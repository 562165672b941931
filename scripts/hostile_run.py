"""Runs a program on what another made for it, and looks at all that it did.

In a pipe or at a terminal, with ^C sent or not: exit code, time, memory, what was said.
scripts/hostile.py has the rows.
"""

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT = 300
LONGEST_SAID = 1500
PROMPT, TAKEN = "\x1b[?2004h", "\x1b[?2004l"  # a line can be typed, was typed
INTERRUPT = "^C"
STEERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
IN_A_TERMINAL = re.compile("\x1b\\]52|[\x80-\x9f\u202a-\u202e\u2066-\u2069]")


@dataclass
class Try:
    """What a row runs.

    Attributes:
        arguments: of `minigpt-repl`.
        stdin: what it reads; endless zeros if `None`.
        code: with which it should end.
        seconds: of processor time that it may take; machines are shared.
        megabytes: of memory, that it may take.
        files: that it should write, looked into for controls.
        interrupt_s: seconds after which ^C is sent.
        keys: typed at a terminal, a line at each prompt; or `INTERRUPT`, ^C half a
            second later.
        says: a part of what should be said.
        is_setup: whether it is of `minigpt-setup`.
    """

    arguments: list[str]
    stdin: bytes | None = b""
    code: int = 1
    seconds: float = TIMEOUT
    megabytes: int = 1500
    files: list[Path] = field(default_factory=list)
    interrupt_s: float | None = None
    keys: list[str] = field(default_factory=list)
    says: str = ""
    is_setup: bool = False
    environment: dict[str, str] = field(default_factory=dict)


@dataclass
class Outcome:
    code: int
    seconds: float
    cpu_seconds: float
    megabytes: int
    out: str
    err: str


LAUNCHER = """
import os, signal, subprocess, sys
signal.signal(signal.SIGINT, lambda *_: None)  # for the child alone, which resets it
child = subprocess.Popen(sys.argv[2:])
_, status, usage = os.wait4(child.pid, 0)
with open(sys.argv[1], "w") as file:
    print(usage.ru_utime + usage.ru_stime, usage.ru_maxrss, file=file)
os._exit(os.waitstatus_to_exitcode(status) % 256)
"""
"""Starts the program and tells what it took. The kernel begins a process' peak with
the size of the one it is started by, and this one is small."""

BEGUN = """
import sys
from minigpt_repl import __main__ as program
program._leave_on_interrupt()  # the first that it does; before, ^C is Python's own
open("begun", "w").close()
sys.exit(program.main())
"""


def run(tried: Try, place: Path) -> Outcome:
    """Run it; its own folders are in `place`."""
    environment = os.environ | {
        f"XDG_{name}_HOME": str(place / name.lower())
        for name in ("CONFIG", "STATE", "DATA", "CACHE")
    }
    environment |= {"PYTHONPATH": str(ROOT), "TERM": "xterm", **tried.environment}
    program = [sys.executable, "-P", "-m", "minigpt_repl"]
    if tried.is_setup:
        program = [sys.executable, str(ROOT / "scripts/setup_model.py")]
    if tried.interrupt_s is not None:
        program = [sys.executable, "-P", "-c", BEGUN]
    taken = place / "taken"
    launcher = [sys.executable, "-I", "-S", "-c", LAUNCHER, str(taken)]
    command = [*launcher, *program, *tried.arguments]
    began = time.monotonic()
    if tried.keys:
        code, out, err = _at_a_terminal(command, tried, place, environment)
    else:
        code, out, err = _in_a_pipe(command, tried, place, environment)
    if not taken.exists():  # it took too long, and was killed with its launcher
        taken.write_text("inf 0")
    cpu_seconds, kilobytes = map(float, taken.read_text().split())
    seconds = time.monotonic() - began
    return Outcome(code, seconds, cpu_seconds, int(kilobytes) // 1024, out, err)


def _in_a_pipe(
    command: list[str], tried: Try, place: Path, environment: dict[str, str]
) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    with contextlib.ExitStack() as stack:
        out, err, stdin = (stack.enter_context(tempfile.TemporaryFile()) for _ in "oei")
        stdin.write(tried.stdin or b"")
        stdin.seek(0)
        if tried.stdin is None:
            stdin = stack.enter_context(open("/dev/zero", "rb"))
        started = subprocess.Popen(
            command,
            stdin=stdin,
            stdout=out,
            stderr=err,
            cwd=place,
            env=environment,
            start_new_session=True,
        )
        if tried.interrupt_s is not None:
            while started.poll() is None and not (place / "begun").exists():
                time.sleep(0.001)
            time.sleep(tried.interrupt_s)
            os.killpg(started.pid, signal.SIGINT)
        try:
            started.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, signal.SIGKILL)
        out.seek(0), err.seek(0)
        texts = [file.read().decode(errors="replace") for file in (out, err)]
    return started.wait(), *texts


def _at_a_terminal(
    command: list[str], tried: Try, place: Path, environment: dict[str, str]
) -> tuple[int, str, str]:
    """Type lines, each at a prompt; exit code, what was shown, nothing."""
    import pexpect

    said = io.StringIO()
    with pexpect.spawn(
        command[0],
        command[1:],
        cwd=str(place),
        # It does not answer where the cursor is, for which a second would be waited.
        env=environment | {"PROMPT_TOOLKIT_NO_CPR": "1"},
        timeout=TIMEOUT,
        dimensions=(24, 200),
        encoding="utf-8",
        codec_errors="replace",
    ) as terminal:
        terminal.logfile_read = said
        with contextlib.suppress(pexpect.TIMEOUT, pexpect.EOF):
            for line in tried.keys:
                if line == INTERRUPT:
                    terminal.expect_exact(TAKEN)
                    time.sleep(0.5)
                    terminal.sendintr()
                    continue
                terminal.expect_exact(PROMPT)
                terminal.send(f"{line}\r")
            terminal.expect(pexpect.EOF)
        terminal.close(force=True)
    code = terminal.exitstatus
    return -1 if code is None else code, said.getvalue(), ""


def faults(tried: Try, found: Outcome, place: Path) -> Iterator[str]:
    """What is not as it should be."""
    steers = IN_A_TERMINAL if tried.keys else STEERS
    texts = {"stdout": found.out, "stderr": found.err}
    texts |= {path.name: path.read_text() for path in tried.files if path.exists()}
    if len(texts) < 2 + len(tried.files):
        yield "a file is not written"
    if found.code != tried.code:
        yield f"code {found.code}, not {tried.code}"
    if found.cpu_seconds > tried.seconds:
        yield f"{found.cpu_seconds:.1f} s, {tried.seconds:g} allowed"
    if found.megabytes > tried.megabytes:
        yield f"{found.megabytes} MB, {tried.megabytes} allowed"
    for name, text in texts.items():
        if wrong := steers.search(text):
            yield f"{wrong[0]!r} in {name}"
    if tried.code in (1, 130) and len(found.err.splitlines()) > 1:
        lines = [line for line in found.err.splitlines() if "minigpt" in line]
        if len(lines) > 1 or "Traceback" in found.err:
            yield f"{len(found.err.splitlines())} lines on stderr"
    if tried.code == 130 and found.err:
        yield "it is not silent"
    if max(map(len, found.err.splitlines()), default=0) > LONGEST_SAID:
        yield "a line that is too long"
    if tried.says not in found.out + found.err:
        yield f"it does not say {tried.says!r}"
    if tried.keys and tried.says and found.out.count(tried.says) > 1:
        yield "it is told more than once"
    if "Traceback" in found.out + found.err:
        yield "a traceback"
    if (place / "here").exists():
        yield "a folder in the current one"
