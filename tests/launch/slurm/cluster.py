"""A real Slurm on this machine for tests: munge, slurmctld and slurmd on 127.0.0.1, in one folder, removed afterwards.

    python tests/launch/slurm/cluster.py up FOLDER [CPUS]     then: export SLURM_CONF=FOLDER/slurm.conf
    python tests/launch/slurm/cluster.py down FOLDER

Needs Debian's packages slurm-wlm and munge, and root. Nothing outside the folder is touched; a Slurm that runs on the
machine already has other ports and another folder.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")
SECONDS = 60.0  # what a daemon may take to answer

# linuxproc and task/none: no cgroups, which a container does not lend. Partitions for whoever must be preempted:
# what waits in `urgent` requeues what runs in `batch`.
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort={control}
SlurmdPort={daemon}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmctldDebug=info
SlurmdDebug=info
SlurmdParameters=config_overrides
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
KillWait=15
MinJobAge=300
SlurmdTimeout=10
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=batch Nodes={host} Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=20
PartitionName=urgent Nodes={host} MaxTime=INFINITE State=UP PriorityTier=9 PreemptMode=OFF
"""


class Impossible(Exception):
    """The error raised if Slurm cannot run here; its message is the reason."""


@dataclass
class Cluster:
    """The folder with all files of a test cluster."""

    folder: Path
    cpus: int = 4

    @property
    def configuration(self) -> Path:
        """Return the path that SLURM_CONF must have."""
        return self.folder / "slurm.conf"

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of a process that uses the cluster."""
        return os.environ | {"SLURM_CONF": str(self.configuration)}

    def up(self) -> None:
        """Start everything and wait until a job could start.

        Raises:
            Impossible: why not.
        """
        check()
        for name in ("state", "spool"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)  # munge refuses a socket that others could not reach, or could replace
        control, daemon = _free_ports()
        self.configuration.write_text(
            CONFIGURATION.format(
                host=_host(),
                folder=self.folder,
                cpus=self.cpus,
                control=control,
                daemon=daemon,
            )
        )
        self._munge()
        self._start("slurmctld", "-c")
        self.start_node()

    def down(self) -> None:
        """End the daemons of this folder, and no others."""
        if (self.folder / "slurmctld.pid").exists():
            self.empty()
        for name in ("slurmd", "slurmctld", "munged"):
            self._end(name, signal.SIGTERM)

    def empty(self) -> None:
        """Cancel every job of this cluster."""
        self.control("scancel", "--user=root", "--quiet")
        self._until(lambda: not self.queue(), "the queue is empty", False)

    def queue(self) -> list[str]:
        """Return the jobs that are queued or running."""
        return self.control("squeue", "--noheader", "--array", "--format=%i").stdout.split()

    def start_node(self) -> None:
        """Start slurmd, and wait until its node is idle or busy."""
        self._start("slurmd")
        self._until(lambda: self._node() in ("idle", "mixed", "allocated", "completing"), "the node is up")

    def stop_node(self) -> None:
        """End slurmd. Jobs on the node keep running, as in a restart of the daemon."""
        self._end("slurmd", signal.SIGTERM)

    def crash_node(self) -> None:
        """Kill slurmd and everything that it started, and tell slurmctld, which would need half a minute to notice."""
        managers = (int((self.folder / "slurmd.pid").read_text()), *self._steps())
        workers = [child for pid in managers for child in _children(pid)]
        # The managers stand still first: one that saw its worker die would report a failed job, which is not requeued.
        for number, pids in ((signal.SIGSTOP, managers), (signal.SIGKILL, (*workers, *managers))):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
        self.control("scontrol", "update", f"NodeName={_host()}", "State=DOWN", "Reason=crashed")
        self._until(lambda: self._node() == "down", "the node is down")

    def _steps(self) -> list[int]:
        """Return the step managers, which outlive slurmd. Those of another Slurm on this machine have another spool."""
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                name = (path.parent / "comm").read_text().strip()
                if name.startswith("slurmstepd") and f"SLURM_CONF={self.configuration}".encode() in path.read_bytes():
                    found.append(int(path.parent.name))
        return found

    def control(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command of Slurm."""
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60, check=False)

    def _node(self) -> str:
        return self.control("sinfo", "--noheader", "--Format=StateLong").stdout.split("\n")[0].strip().rstrip("*")

    def _munge(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        command = ["munged", "--force", f"--key-file={key}", f"--socket={self.folder}/munge.socket"]
        command += [f"--{name}-file={self.folder}/munged.{name}" for name in ("pid", "log", "seed")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise Impossible(f"munged: {done.stderr.strip()}")

    def _start(self, name: str, *more: str) -> None:
        done = subprocess.run(
            [name, *more], env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )
        if done.returncode:
            raise Impossible(f"{name}: {done.stderr.strip() or self._log(name)}")

    def _end(self, name: str, number: int) -> None:
        file = self.folder / f"{name}.pid"
        if not file.exists():
            return
        pid = int(file.read_text())
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        self._until(lambda: not Path(f"/proc/{pid}").exists(), f"{name} has ended")

    def _log(self, name: str) -> str:
        path = self.folder / f"{name}.log"
        return path.read_text()[-2000:] if path.exists() else ""

    def _until(self, holds: object, what: str, give_up: bool = True) -> None:
        assert callable(holds)
        deadline = time.monotonic() + SECONDS
        while not holds():
            if time.monotonic() > deadline:
                if give_up:
                    raise Impossible(f"waited {SECONDS:.0f} s until {what}:\n{self._log('slurmctld')}")
                return
            time.sleep(0.2)


def check() -> None:
    """Check that a cluster can be started here.

    Raises:
        Impossible: why not.
    """
    absent = [name for name in PROGRAMS if shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None]
    if absent:
        raise Impossible(f"no {', '.join(absent)} here: apt-get install slurm-wlm munge")
    if os.getuid() != 0:
        raise Impossible("slurmd starts jobs for others: it needs root")


def _children(pid: int) -> list[int]:
    """Return all descendants of a process, the youngest first."""
    try:
        direct = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [found for child in map(int, direct) for found in (*_children(child), child)]


def _host() -> str:
    return socket.gethostname().split(".")[0]


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return one.getsockname()[1], two.getsockname()[1]


def main() -> int:
    """Run `up FOLDER [CPUS]` or `down FOLDER`."""
    match sys.argv[1:]:
        case ["up", folder, *cpus]:
            cluster = Cluster(Path(folder).resolve(), int(cpus[0]) if cpus else 4)
            try:
                cluster.up()
            except Impossible as reason:
                cluster.down()
                print(reason, file=sys.stderr)
                return 1
            print(f"export SLURM_CONF={cluster.configuration}")
            return 0
        case ["down", folder]:
            Cluster(Path(folder).resolve()).down()
            return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
