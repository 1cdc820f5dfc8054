"""Environments that hang, and the processes that environments leave behind."""

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scripted_envs import ScriptedEnv

from rllib_risk.env_wrappers import (
    EnvFailedError,
    LoopedTeamEnvs,
    TeamEnv,
    failures,
    make_batched,
    notices,
    watchdog,
)
from rllib_risk.env_wrappers.errors import EnvTimeoutError
from rllib_risk.env_wrappers.macn.batched import BatchedMACN
from rllib_risk.env_wrappers.watchdog import EXIT_STUCK, Watchdog

# A call that hangs never returns. This limit is above a slow step that does not hang.
TIMEOUT_S = 1.0
STOP = np.zeros((1, 2), np.int64)
ONE = np.arange(1)
ACTIVE = np.ones(1, bool)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(failures, "BACKOFF_S", 0.0)
    notices.forget()


def descendants() -> set[int]:
    """All processes that this one has started, directly or not, zombies included."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        parents[int(stat.parent.name)] = int(fields[1])
    found, more = set(), {os.getpid()}
    while more:
        more = {pid for pid, parent in parents.items() if parent in more}
        found |= more
    return found


def sleep() -> None:
    time.sleep(1000)


def loop() -> None:
    while True:
        pass


def loop_and_catch() -> None:
    while True:
        # Like a simulator's client that reconnects without end.
        with contextlib.suppress(Exception):
            time.sleep(1000)


def wait_for_answer() -> None:
    here, there = socket.socketpair()
    with here, there:
        here.recv(1)


def wait_for_child() -> None:
    subprocess.run(["sleep", "1000"], check=False)


class Hanging(ScriptedEnv):
    """Hangs in one of its functions."""

    def __init__(self, where, how):
        super().__init__([{}] * 5)
        self.where, self.how = where, how
        self._hang("build")

    def _hang(self, name):
        if name == self.where:
            self.how()

    def reset(self, seed=None, options=None):
        self._hang("reset")
        return super().reset(seed, options)

    def step(self, actions):
        self._hang("step")
        return super().step(actions)

    def close(self):
        self._hang("close")


def looped(make, timeout_s=TIMEOUT_S, **kwargs) -> LoopedTeamEnvs:
    return LoopedTeamEnvs(
        lambda: TeamEnv(make()), 1, env_name="mine", timeout_s=timeout_s, **kwargs
    )


@pytest.mark.parametrize(
    "how", [sleep, loop, loop_and_catch, wait_for_answer, wait_for_child]
)
def test_a_step_that_hangs_is_a_crash_of_that_env(how):
    """R16: whatever a step waits for, it is ended in time; the next env takes over."""
    places = ["step", "nowhere"]
    envs = looped(lambda: Hanging(places.pop(0), how))
    envs.reset(ONE, ONE)
    before = descendants()
    step = envs.step(STOP, ACTIVE)
    assert step.crashed[0].startswith(
        "EnvTimeoutError: env 'mine': step() did not return within 1 s"
        " (env_timeout_s) (step 1 of the episode"
    )
    if how is not wait_for_child:  # its end lets the call return
        assert f"in {how.__name__}" in step.crashed[0]
    assert descendants() <= before
    envs.reset(ONE, ONE)
    assert not envs.step(STOP, ACTIVE).crashed
    envs.close()


@pytest.mark.parametrize("where", ["build", "reset"])
def test_an_env_that_hangs_each_time_is_given_up(where):
    """R16: build and reset count as well."""
    with pytest.raises(EnvFailedError, match=rf"2 times.*{where}\(\) did not return"):
        looped(lambda: Hanging(where, sleep), max_restarts=2).reset(ONE, ONE)


def test_a_close_that_hangs_is_logged_and_the_run_goes_on(caplog):
    """R16: a close that raises is logged as well."""

    def fail():
        raise OSError("the port is gone")

    for how, text in ((sleep, "close() did not return within 1 s"), (fail, "port")):
        envs = looped(lambda how=how: Hanging("close", how))
        with caplog.at_level(logging.WARNING):
            envs.close()
        assert text in caplog.text
        assert "failed and is ignored" in caplog.text
        notices.forget()
        caplog.clear()


@pytest.mark.parametrize("num_envs", [4, 32])
def test_of_many_closes_that_hang_only_the_first_ones_are_waited_for(
    num_envs, monkeypatch
):
    """R16: the end of a run takes as long for many copies as for a few."""
    monkeypatch.setattr(watchdog, "CLOSE_S", 0.5)
    monkeypatch.setattr(watchdog, "_CLOSE_OVERDUE_S", 0.2)
    called = []

    def hang():
        called.append(1)
        sleep()

    def make():
        return TeamEnv(Hanging("close", hang))

    envs = LoopedTeamEnvs(make, num_envs, env_name="mine", timeout_s=TIMEOUT_S)
    envs.close()
    assert len(called) == 2
    # An env that is built later is closed as usual.
    looped(lambda: Hanging("close", lambda: called.append(0))).close()
    assert called[-1] == 0


def test_a_vectorised_env_that_hangs_is_an_error(monkeypatch):
    """R16: the same rule for envs that step many copies at once."""
    monkeypatch.setattr(BatchedMACN, "step", lambda self, actions, active: sleep())
    envs = make_batched("macn", {}, 2, timeout_s=TIMEOUT_S)
    with pytest.raises(EnvTimeoutError, match=r"'macn': step\(\)"):
        envs.step(np.zeros((2, 2), np.int64), np.ones(2, bool))


def test_another_thread_is_interrupted_too():
    """A call outside of the main thread ends when it runs Python code again."""
    caught = []

    def play():
        try:
            Watchdog("mine", TIMEOUT_S).call(0, "step", loop)
        except EnvTimeoutError as error:
            caught.append(error)

    thread = threading.Thread(target=play)
    thread.start()
    thread.join(100)
    assert len(caught) == 1


def test_signals_of_others_are_left_alone():
    """An env may use SIGALRM for its own time limit; other SIGURG handlers run on."""
    got = []
    old = signal.signal(signal.SIGURG, lambda number, frame: got.append(number))
    try:
        dog = Watchdog("mine", TIMEOUT_S)
        handler = signal.getsignal(signal.SIGALRM)
        with pytest.raises(EnvTimeoutError):
            dog.call(0, "step", sleep)
        assert signal.getsignal(signal.SIGALRM) is handler and not got
        signal.raise_signal(signal.SIGURG)
        assert got == [signal.SIGURG]
    finally:
        signal.signal(signal.SIGURG, old)


# The number identifies the processes of this run, also after their parent has ended.
SLEEP = f"sleep 1000.{os.getpid()}"


def sleepers() -> list[str]:
    """Command lines of the processes that ``Simulator`` has started."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (process / "cmdline").read_text().replace("\0", " ")
            if SLEEP in line:
                found.append(line)
    return found


class Simulator(ScriptedEnv):
    """Starts a process, crashes at its first step, and cannot be closed."""

    def __init__(self, when):
        super().__init__([{}] * 5)
        self.when = when
        self._start("build")

    def _start(self, name):
        if name == self.when:
            # A shell with a child of its own.
            self.process = subprocess.Popen(["sh", "-c", f"{SLEEP}; true"])

    def reset(self, seed=None, options=None):
        self._start("reset")
        return super().reset(seed, options)

    def step(self, actions):
        self._start("step")
        raise ConnectionError("the simulator is gone")

    def close(self):
        raise ConnectionError("the simulator is gone")


def test_a_hundred_crashes_leave_no_process(monkeypatch):
    """R16: 100 injected crashes of envs that start a process in any of their calls."""
    monkeypatch.setattr(failures, "MAX_LOST_SHARE", 1.0)
    before = descendants()
    moments = ["build", "reset", "step"]
    # No env hangs here, but a process may start slowly.
    envs = looped(lambda: Simulator(moments[-1]), timeout_s=100, max_restarts=1000)
    for _ in range(100):
        moments.insert(0, moments.pop())
        envs.reset(ONE, ONE)
        assert "gone" in envs.step(STOP, ACTIVE).crashed[0]
    envs.close()
    assert descendants() <= before
    assert not sleepers()


class Starting(ScriptedEnv):
    """Starts a process in its constructor; crashes at its first step."""

    def __init__(self, command, **options):
        super().__init__([{}] * 5)
        # It runs the command, or else it ends at once: then `wait` returns.
        self.process = subprocess.Popen(["sh", "-c", command], **options)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(0.2)

    def step(self, actions):
        raise ConnectionError("the simulator is gone")


@pytest.mark.parametrize("own_group", [False, True])
@pytest.mark.parametrize("launcher_ends", [False, True])
def test_a_crash_ends_what_a_launcher_has_started(launcher_ends, own_group):
    """R16: also a simulator whose launcher has ended, in a session of its own or not"""
    command = f"{SLEEP} &" if launcher_ends else f"{SLEEP}; true"
    before = descendants()
    envs = looped(lambda: Starting(command, start_new_session=own_group), 100)
    envs.reset(ONE, ONE)
    assert sleepers()
    assert "gone" in envs.step(STOP, ACTIVE).crashed[0]
    envs.close()
    assert descendants() <= before
    assert not sleepers()


def test_a_simulator_that_leaves_its_group_leader_later_is_ended_too():
    """R16: the launcher ends between two calls, and so does its child."""
    launcher = f"(sleep 0.3; {SLEEP} & sleep 0.1) & sleep 0.1"
    envs = looped(lambda: Starting(launcher, start_new_session=True), 100)
    envs.reset(ONE, ONE)
    end = time.monotonic() + 60
    while not sleepers() and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.3)
    envs.close()
    assert not sleepers()


KILLED = """
import os, signal, subprocess, sys, time
from rllib_risk.env_wrappers.watchdog import Watchdog
def start():
    command = sys.argv[1]
    subprocess.Popen(["sh", "-c", command], start_new_session=True)
    if len(sys.argv) > 2:  # killed while the environment is built
        print("started", flush=True)
        time.sleep(1000)
    return open(os.devnull)
Watchdog("mine", 100.0).build(0, start)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(
    "command", [f"{SLEEP}; true", f"{SLEEP} & exec sleep 1"], ids=["child", "orphan"]
)
@pytest.mark.parametrize("where", [[], ["in build"]], ids=["step", "build"])
def test_a_killed_runner_leaves_no_process(command, where):
    """R16: SIGKILL of a runner ends the children of its envs' processes, too."""
    runner = subprocess.Popen(
        [sys.executable, "-c", KILLED, command, *where], stdout=subprocess.PIPE
    )
    with runner:
        if where:
            runner.stdout.readline()
            time.sleep(2.5)  # the watchdog looks at running calls once a second
            runner.kill()
    end = time.monotonic() + 60
    while sleepers() and time.monotonic() < end:
        time.sleep(0.05)
    assert not sleepers()


def test_processes_of_others_survive_a_crash():
    """R16: those of another env in this process, and those started between calls."""
    other = looped(lambda: Starting(f"exec {SLEEP}"), 100)
    envs = looped(lambda: Starting("true"), 100)
    other.reset(ONE, ONE)
    envs.reset(ONE, ONE)
    time.sleep(0.05)  # as Ray does: it starts a while after the last call of an env
    mine = subprocess.Popen(["sleep", "1000"])
    try:
        time.sleep(0.05)
        third = looped(lambda: Starting(f"exec {SLEEP}"), 100)
        assert "gone" in envs.step(STOP, ACTIVE).crashed[0]
        envs.close()
        assert mine.poll() is None
        assert len(sleepers()) == 2
        for one in (other, third):
            one.close()
        assert not sleepers()
        assert mine.poll() is None
    finally:
        mine.kill()
        mine.wait()


@pytest.mark.parametrize("command", ["sleep 0.01", "true & exec sleep 0.01"])
def test_a_process_for_each_episode_leaves_few(command):
    """Guards are released, and orphans collected, while the env goes on."""
    dog = Watchdog("mine", 100)
    before = descendants()
    for _ in range(80):
        launcher = dog.call(
            0, "reset", partial(subprocess.Popen, ["sh", "-c", command])
        )
        launcher.wait()
    assert len(descendants() - before) < 70
    dog.end(0)


STUCK = """
import ctypes, subprocess, sys
from rllib_risk.env_wrappers import watchdog
from rllib_risk.env_wrappers.watchdog import Watchdog
watchdog.GRACE_S = 0.5
child = []
def deadlock():
    child.append(subprocess.Popen(["sleep", "1000"]))
    print(child[0].pid, flush=True)
    lock = ctypes.create_string_buffer(64)
    for _ in range(2):  # a thread that waits for itself, and takes no signal
        ctypes.CDLL(None).pthread_mutex_lock(lock)
Watchdog("mine", 3.0).call(0, "step", deadlock)
"""


def test_c_code_that_cannot_be_interrupted_ends_the_process():
    """R16: with a message and an exit code of its own; its children end too."""
    done = subprocess.run(
        [sys.executable, "-c", STUCK], capture_output=True, text=True, timeout=200
    )
    assert done.returncode == EXIT_STUCK == 75
    assert "env 'mine': step() did not return within 3 s" in done.stderr
    assert not Path(f"/proc/{int(done.stdout)}").exists()
