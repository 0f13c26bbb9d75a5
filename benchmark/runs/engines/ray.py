"""An engine on a cluster of Ray: one actor for each GPU, or for each core where there is none.

Ray (https://docs.ray.io) connects the machines, starts the actors and carries what they say; it is an optional extra.
The driver hands out jobs and alone writes files, so that the machines need no common disk. Each node with the driver's
software gets as many actors as it has GPUs or cores; an actor stays until the end of the command, because its start
costs an import of torch and a start of CUDA.
"""

import os
import time
from collections import Counter, deque
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visual_decathlon.benchmark.config.specs import Run
from visual_decathlon.benchmark.runs.engines import JobEnded, JobProgress
from visual_decathlon.benchmark.runs.engines.folders import Folders, with_paths
from visual_decathlon.benchmark.runs.engines.node import Checkpoint, NodeWorker, Outcome, Software
from visual_decathlon.benchmark.runs.engines.node_files import FileServer, offers
from visual_decathlon.benchmark.runs.engines.ray_cluster import answers, connected, short, use_token
from visual_decathlon.benchmark.runs.job import Job
from visual_decathlon.datasets.cores import cores
from visual_decathlon.datasets.errors import InputError, Unwritable, option
from visual_decathlon.datasets.io import write_all, write_bytes

LOOK = 2.0  # s between two looks at the cluster's nodes
STARTS = 3  # failed starts after which a node is left out: a cluster that just lost a driver cancels some
PATIENCE = 20.0  # s without a free place, after which the user is told
AHEAD = 16  # messages of a job that an actor may be ahead of the driver


class _Actor(NodeWorker):
    """A NodeWorker whose driver is reached by Ray."""

    def __init__(self, folders: Folders, device: str, variables: dict[str, str], server: Any):
        import ray

        digest = lambda path: ray.get(server.digest.remote(path))
        read = lambda path, start: ray.get(server.read.remote(path, start))
        super().__init__(folders, device, variables, digest, read)

    def software(self) -> Software:
        """The software of this node."""
        return Software.here()


@dataclass(eq=False)
class _Member:
    """An actor on a node, and what is awaited from it: its software at first, then the messages of its job."""

    actor: Any
    node: str  # id
    awaited: Any = None
    job: Job | None = None
    fit: bool = False


class RayEngine:
    """Executes jobs in actors of a Ray cluster, at most `count` at a time.

    Implements `Engine`, as a context manager. The cluster is that of RAY_ADDRESS; without it, one is started on this
    machine and ended again. `device` is auto, cpu or cuda; after `begin` it is what the jobs run on.
    """

    def __init__(self, count: int | None, device: str, results: Path, cache: Path):
        self._asked, self.count, self.device = count, count or cores(), device
        self._folders = Folders(results.absolute(), cache.absolute())
        self._queue: deque[Job] = deque()
        self._members: list[_Member] = []
        self._names: dict[str, str] = {}  # of every node that was seen, by id
        self._alive: set[str] = set()  # the nodes that the cluster has now, by id
        self._slots: dict[str, int] = {}  # actors that each living node has room for, by id
        self._unfit: dict[str, str] = {}  # why a node is not used, by id
        self._failed: dict[str, list[float]] = {}  # when actors failed to start on a node, by id
        self._notes: list[str] = []
        self._looked = self._waiting_since = 0.0
        self._server = self._ray = self._address = None
        self._token = False  # whether this command decided to show the user's token to the cluster

    def __enter__(self) -> "RayEngine":
        return self

    def __exit__(self, kind, error, trace) -> None:
        self.end(now=kind is not None)

    def prepare(self, most: int) -> None:
        """Nothing: the cluster is not known before `begin`."""

    def begin(self, todo: Collection[Run]) -> None:
        """Connect to the cluster, or start one here, and choose device and count. Raises InputError."""
        self._token = use_token()
        self._ray = connected()
        self._address = self._ray.get_runtime_context().gcs_address
        here = self._on(self._ray.get_runtime_context().get_node_id())
        self._server = self._ray.remote(FileServer).options(num_cpus=0, scheduling_strategy=here).remote()
        if self.device == "auto":
            self.device = "cuda:0" if self._ray.cluster_resources().get("GPU") else "cpu"
        elif self.device == "cuda":
            self.device = "cuda:0"
        self._look()
        if not sum(self._slots.values()):
            remedy = f"add a node with one, or leave {option('device')} out"
            raise InputError(f"the Ray cluster has no {self._place_name()} for these runs; {remedy}")

    def submit(self, job: Job) -> None:
        """Add a job to the queue. Jobs start in the order in which they are submitted."""
        self._queue.append(job)

    def events(self) -> Iterator[JobProgress | JobEnded]:
        """Yield events as they happen until every job ended, also of jobs which are submitted meanwhile."""
        self._waiting_since = time.monotonic()
        while self._queue or any(member.job for member in self._members):
            self._hire()
            for member in [member for member in self._members if member.node not in self._alive]:
                yield from self._lose(member, ConnectionError("the cluster sees it no longer"))
            yield from self._hand_out()
            yield from self._told()
            awaited = [member.awaited for member in self._members if member.awaited is not None]
            if not awaited:
                time.sleep(0.1)
                continue
            # Ready is what is on this machine: to get what a lost node still had would wait for ever.
            ready, _ = self._ray.wait(awaited, num_returns=len(awaited), timeout=0)
            if not ready:  # then wait for the first
                ready, _ = self._ray.wait(awaited, num_returns=1, timeout=LOOK / 2)
            ready = set(map(id, ready))
            for member in [member for member in self._members if id(member.awaited) in ready]:
                if member in self._members:  # one before it may have taken its node out
                    yield from self._receive(member)

    def end(self, now: bool) -> None:
        """End all actors and their jobs; a cluster that was started here ends too."""
        if self._ray is None:
            return
        for actor in [*(member.actor for member in self._members), self._server]:
            self._kill(actor)
        self._members, self._server = [], None
        with suppress(Exception):  # the cluster is lost
            self._ray.shutdown()
        self._ray = None

    def _look(self) -> None:
        """See which nodes the cluster has now, and how many actors each has room for. Raises InputError if it is lost.

        Ray itself would wait for a minute for a lost head, and then end this process without a word to it.
        """
        if self._address and not answers(self._address):
            self._ray = None  # nothing can be ended any more: the workers end with the cluster
            lost = f"the Ray cluster at {self._address} no longer answers"
            raise InputError(f"{lost}; start it again, and the same command goes on where it was")
        self._looked = time.monotonic()
        resource = "CPU" if self.device == "cpu" else "GPU"
        nodes = [node for node in self._ray.nodes() if node["Alive"]]
        self._alive = {node["NodeID"] for node in nodes}
        self._names |= {node["NodeID"]: node["NodeManagerHostname"] for node in nodes}
        fit = [node for node in nodes if node["NodeID"] not in self._unfit]
        self._slots = {node["NodeID"]: int(node["Resources"].get(resource, 0)) for node in fit}
        self.count = self._asked or max(1, sum(self._slots.values()))

    def _hire(self) -> None:
        """Start actors where nodes have room, until there is one for each job. Raises InputError where none has."""
        if time.monotonic() - self._looked > LOOK:
            self._look()
        if not any(self._slots.values()) and not any(member.job for member in self._members):
            raise InputError("; ".join(self._unfit.values()) or "the Ray cluster has lost all its nodes; run again")
        wanted = min(self.count, len(self._queue) + sum(member.job is not None for member in self._members))
        there = Counter(member.node for member in self._members)
        while len(self._members) < wanted:
            free = {
                node: slots - there[node]
                for node, slots in self._slots.items()
                if slots > there[node] and time.monotonic() - self._failed.get(node, [0.0])[-1] > LOOK
            }
            if not free:
                break
            node = max(free, key=free.get)
            there[node] += 1
            self._members.append(self._start(node))

    def _on(self, node: str) -> Any:
        """Places an actor on this node, and on no other."""
        return self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)

    def _start(self, node: str) -> _Member:
        needs = {"num_cpus": 1, "num_gpus": 0 if self.device == "cpu" else 1}
        variables = {name: value for name, value in os.environ.items() if name.startswith("VISUAL_DECATHLON_")}
        actor = self._ray.remote(_Actor).options(**needs, scheduling_strategy=self._on(node))
        actor = actor.remote(self._folders, self.device, variables, self._server)
        return _Member(actor, node, awaited=actor.software.remote())

    def _hand_out(self) -> Iterator[JobProgress]:
        """Give the first jobs of the queue to the actors that have none."""
        for member in self._members:
            if self._queue and member.fit and member.job is None:
                job = with_paths(self._queue.popleft(), Path.absolute)
                call = member.actor.execute.options(num_returns="streaming", _generator_backpressure_num_objects=AHEAD)
                member.job, member.awaited = job, call.remote(job, offers([*job.reads, job.checkpoint]))
                if len(self._slots) > 1:
                    yield JobProgress(job, {"place": self._names[member.node]})

    def _told(self) -> Iterator[JobProgress]:
        """Sentences for the user, as messages of any job."""
        if any(member.fit for member in self._members):
            self._waiting_since = time.monotonic()
        elif time.monotonic() - self._waiting_since > PATIENCE:
            self._notes.append(f"waiting for the Ray cluster: no {self._place_name()} is free, or none answers yet")
            self._waiting_since = float("inf")  # it is said once
        job = next((m.job for m in self._members if m.job), None) or (self._queue[0] if self._queue else None)
        while self._notes and job:
            yield JobProgress(job, {"note": self._notes.pop(0)})

    def _receive(self, member: _Member) -> Iterator[JobProgress | JobEnded]:
        """What a member says next, or its loss."""
        try:
            said = self._ray.get(member.awaited if member.job is None else next(member.awaited))
        except self._ray.exceptions.RayTaskError as error:  # an exception of our own code there
            yield from self._lose(member, error, trace=str(error))
            return
        except (self._ray.exceptions.RayError, StopIteration) as error:
            yield from self._lose(member, error)
            return
        if isinstance(said, Software):
            self._admit(member, said)
            return
        job = member.job
        for message in said:
            if isinstance(message, Checkpoint):
                write_bytes(message.content, job.checkpoint)
            elif isinstance(message, Outcome):
                member.job = member.awaited = None
                yield self._finished(member, job, message)
                if member.node in self._unfit:
                    self._remove_idle(member.node)
            else:
                yield JobProgress(job, message)

    def _admit(self, member: _Member, theirs: Software) -> None:
        member.awaited = None
        if difference := Software.here().difference(theirs):
            remedy = "install the same there, and it is used"
            self._refuse(member.node, f"the node {self._names[member.node]} is left out: it has {difference}; {remedy}")
        else:
            member.fit = True

    def _finished(self, member: _Member, job: Job, outcome: Outcome) -> JobEnded:
        if isinstance(outcome.end.error, Unwritable):  # concerns that node alone
            sentence = f"{outcome.end.error} on the node {self._names[member.node]}"
            self._refuse(member.node, f"{sentence}, which is left out")
            return JobEnded(job, lost=sentence)
        if outcome.files:
            try:
                write_all(outcome.files)
            except InputError as error:
                return JobEnded(job, error=error)
            job.checkpoint.unlink(missing_ok=True)
        death = outcome.end.death and f"{outcome.end.death} (on {self._names[member.node]})"
        return outcome.end._replace(job=job, death=death)

    def _lose(self, member: _Member, error: Exception, trace: str | None = None) -> Iterator[JobEnded]:
        """Take a member out that died, or never began; with a `trace` it met a defect."""
        job, name = member.job, self._names[member.node]
        self._kill(member.actor)
        self._members.remove(member)
        self._look()
        if job is None and member.node in self._slots:  # the node lives, and could not start an actor
            failed = self._failed.setdefault(member.node, [])
            failed.append(time.monotonic())
            if len(failed) == STARTS:
                sentence = f"the node {name} is left out: the suite does not start there ({short(error)})"
                hint = "; if the cluster was started without a token, set RAY_AUTH_MODE=disabled" * self._token
                self._refuse(member.node, sentence + hint)
        if job is not None and trace:
            sentence = (
                f"{job.describe()}: ended by a defect on {name}, whose traceback is above; the other runs went on"
            )
            yield JobEnded(job, error=InputError(sentence), trace=trace)
        elif job is not None:
            what = "its worker died" if member.node in self._slots else "the node was lost"
            yield JobEnded(job, lost=f"{what} ({name}: {short(error)})")

    def _place_name(self) -> str:
        return "core" if self.device == "cpu" else "GPU"

    def _refuse(self, node: str, sentence: str) -> None:
        """Use a node no more; what runs there goes on, and its actors end after it."""
        if node not in self._unfit:
            self._unfit[node] = sentence
            self._notes.append(sentence)
        self._slots.pop(node, None)
        self._remove_idle(node)

    def _remove_idle(self, node: str) -> None:
        for member in [m for m in self._members if m.node == node and m.job is None]:
            self._kill(member.actor)
            self._members.remove(member)

    def _kill(self, actor: Any) -> None:
        with suppress(Exception):  # it is dead already
            self._ray.kill(actor, no_restart=True)
