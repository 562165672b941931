"""The engine in a child process, as the terminal sees it; with fake engines."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from child_engines import taken_up
from fakes import FakeEngine
from processes import python

from minigpt_repl.engine.remote import RemoteEngine, log_file
from minigpt_repl.engine.request import Finished, Request, Started, TokenChosen
from minigpt_repl.errors import CheckpointError, EngineError, UsageError
from minigpt_repl.sampling.registry import all_samplers

pytestmark = pytest.mark.slow

FACTORY = "child_engines:make_engine"
REQUEST = Request("the king", "top_k", {"k": 5, "temperature": 1.0}, 12, seed=3)


@pytest.fixture
def open_engine(tmp_path, monkeypatch):
    """Makes engines, which are closed when the test ends."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    engines = []

    def make(directory="plain", **options):
        engines.append(RemoteEngine(directory, factory=FACTORY, **options))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


def wait_until(condition) -> None:
    end = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def stop_when(engine, condition) -> None:
    """Have another thread call `stop()` as soon as the condition holds."""

    def stop() -> None:
        wait_until(condition)
        engine.stop()

    threading.Thread(target=stop).start()


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{process}/stat")
    # A child that nobody has waited for yet is no running process.
    return not state.exists() or state.read_text().split(") ")[1][0] != "Z"


def test_gives_what_the_engine_gives(open_engine):
    engine, local = open_engine(), FakeEngine(directory="plain")
    assert engine.info == local.info
    assert engine.encode("the king") == local.encode("the king")
    assert (engine.logits([7, 8]) == local.logits([7, 8])).all()
    for spec in all_samplers():
        request = Request("the king", spec.name, spec.defaults(), 9, seed=5)
        assert list(engine.generate(request)) == list(local.generate(request))


def test_events_come_before_the_text_is_finished(open_engine):
    engine = open_engine("slow")
    events = engine.generate(Request("the king", "top_k", REQUEST.parameters, 5000))
    assert isinstance(next(events), Started)
    assert isinstance(next(events), TokenChosen)
    engine.stop()
    *_, last = events
    assert isinstance(last, Finished)
    assert len(last.generation.tokens) < 5000


def test_errors_come_as_they_were_raised(open_engine):
    engine = open_engine()
    with pytest.raises(UsageError, match="no sampler 'nonsense'"):
        list(engine.generate(Request("", "nonsense", {})))
    with pytest.raises(UsageError, match="k must be"):
        engine.warm(Request("", "top_k", {"k": 0}))
    assert engine.encode("the") == FakeEngine().encode("the")


def test_an_error_in_the_middle_of_a_text_leaves_a_working_engine(open_engine):
    engine = open_engine("failing")
    with pytest.raises(EngineError, match="process ended"):
        list(engine.generate(REQUEST))
    assert engine.status.state == "ready"
    assert engine.encode("the") == FakeEngine().encode("the")


@pytest.mark.parametrize(
    ("directory", "error", "line"),
    [
        ("damaged", CheckpointError, "damaged: its weights are not"),
        ("defect", EngineError, "RuntimeError: an unexpected"),
    ],
)
def test_a_load_that_fails_is_one_line_every_time(open_engine, directory, error, line):
    engine = open_engine(directory)
    for _ in range(2):
        with pytest.raises(error, match=line) as raised:
            list(engine.generate(REQUEST))
        assert "\n" not in str(raised.value)
        assert engine.status.state == "failed"


def test_samplers_are_warmed_while_nothing_is_asked(open_engine):
    changes = threading.Semaphore(0)
    engine = open_engine(
        warm=[(Request("", name, {}), 1) for name in ("top_k", "nonsense", "beam")],
    )
    engine.when_changed(changes.release)
    assert engine.status.state == "stopped"
    engine.start()
    wait_until(lambda: engine.status.state == "ready")
    assert changes.acquire(blocking=False)
    assert "nonsense" in log_file().read_text()  # said there, and nowhere else


def test_stop_ends_a_text_that_is_kept(open_engine):
    engine = open_engine("slow")
    events = engine.generate(Request("the king", "top_k", REQUEST.parameters, 5000))
    for event in events:
        if isinstance(event, TokenChosen) and event.index == 4:
            engine.stop()
    assert isinstance(event, Finished)
    assert event.generation.stop_reason == "interrupted"
    assert 5 <= len(event.generation.tokens) < 5000
    assert len(list(engine.generate(REQUEST))) == 14  # the next one is not stopped


def test_stop_works_from_a_signal_handler(open_engine):
    engine = open_engine("slow")
    assert engine.info
    before = signal.signal(signal.SIGALRM, lambda number, frame: engine.stop())
    try:
        for event in engine.generate(Request("", "top_k", REQUEST.parameters, 5000)):
            if isinstance(event, TokenChosen) and event.index == 0:
                signal.setitimer(signal.ITIMER_REAL, 0.05)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert event.generation.stop_reason == "interrupted"


def test_a_text_that_nobody_reads_on_is_stopped(open_engine):
    engine = open_engine("slow")
    events = engine.generate(Request("", "top_k", REQUEST.parameters, 50_000))
    next(events)
    events.close()
    assert len(list(engine.generate(REQUEST))) == 14
    assert not engine._process.is_stuck


@pytest.mark.parametrize("call", ["generate", "info", "encode"])
def test_stop_ends_the_wait_for_a_model_that_loads(open_engine, call):
    engine = open_engine("endless")
    engine.start()
    stop_when(engine, lambda: engine._process._open)
    with pytest.raises(EngineError, match="the model is still loading"):
        if call == "generate":
            list(engine.generate(REQUEST))
        elif call == "encode":
            engine.encode("the")
        else:
            engine.info  # noqa: B018
    assert engine._process.is_stuck


def test_a_child_that_hears_nothing_is_given_up_then_replaced(open_engine):
    engine = open_engine("compiling")
    assert engine.info
    process = engine._process
    for is_second in (False, True):

        def is_at_work(sent=1 + is_second):
            return len(process._open) == sent and taken_up().exists()

        stop_when(engine, is_at_work)
        with pytest.raises(EngineError, match="stopped before the first token"):
            list(engine.generate(REQUEST))
        assert is_second or engine._process.is_stuck  # at work on the first
        assert (engine._process is not process) == is_second
    short = Request("", "greedy", {}, length=1)
    assert len(list(engine.generate(short))) == 3
    assert not engine._process.is_stuck


def test_a_text_is_given_up_too_if_it_has_begun_but_has_no_token(open_engine):
    engine = open_engine("tracing")
    assert engine.info
    stop_when(engine, lambda: taken_up().exists())
    events = engine.generate(REQUEST)
    assert isinstance(next(events), Started)
    with pytest.raises(EngineError, match="stopped before the first token"):
        next(events)


def test_a_crash_is_told_and_the_next_call_starts_another(open_engine):
    engine = open_engine("crashing")
    with pytest.raises(EngineError, match=r"process ended \(exit code 9\)"):
        list(engine.generate(REQUEST))
    assert engine.status.state == "stopped"
    short = Request("", "greedy", {}, length=2)
    assert len(list(engine.generate(short))) == 4
    os.kill(engine._process._popen.pid, signal.SIGKILL)
    wait_until(lambda: engine.status.state == "stopped")
    assert "SIGKILL" in str(engine.status.failure)
    assert engine.encode("the") == FakeEngine().encode("the")


def test_a_closed_engine_has_no_child_and_says_so(open_engine):
    engine = open_engine()
    assert engine.info
    process = engine._process._popen.pid
    engine.close()
    assert not is_running(process)
    with pytest.raises(EngineError, match="closed"):
        engine.encode("the")


def test_an_unwritable_log_does_not_matter(open_engine, tmp_path):
    (tmp_path / "minigpt-repl").write_text("a file in the way")
    assert open_engine().encode("the") == FakeEngine().encode("the")


PARENT = """
import sys, time
from minigpt_repl.engine.remote import RemoteEngine
engine = RemoteEngine(sys.argv[1], factory="child_engines:make_engine")
engine.start()
while engine.status.state != ("ready" if sys.argv[1] == "plain" else "loading"):
    time.sleep(0.01)
print(engine._process._popen.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("directory", ["plain", "endless"])
def test_the_child_ends_with_its_parent(directory, tmp_path):
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, directory],
        stdout=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "XDG_STATE_HOME": str(tmp_path),
        },
    )
    child = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    wait_until(lambda: not is_running(child))


def test_the_child_is_out_of_reach_of_the_terminal(open_engine):
    engine = open_engine()
    assert engine.info
    process = engine._process._popen.pid
    assert os.getsid(process) == process != os.getsid(0)
    os.kill(process, signal.SIGINT)
    assert engine.encode("the") == FakeEngine().encode("the")
    assert engine._process._popen.pid == process


def test_nothing_is_imported_from_the_current_folder(tmp_path):
    (tmp_path / "socket.py").write_text("raise SystemExit('imported from here')")
    code = (
        "from minigpt_repl.engine.remote import RemoteEngine; "
        "engine = RemoteEngine('plain', factory='child_engines:make_engine'); "
        "print(engine.encode('the')); engine.close()"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "XDG_STATE_HOME": str(tmp_path),
        },
    )
    assert done.stdout.strip() == str(FakeEngine().encode("the")), done.stderr


def test_importing_it_loads_neither_tensorflow_nor_numpy():
    code = (
        "import sys, minigpt_repl.engine.remote as r; "
        "print({'tensorflow', 'keras', 'numpy'} & set(sys.modules))"
    )
    done = python(code)
    assert done.stdout.strip() == "set()"
