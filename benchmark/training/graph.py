"""CUDA graphs: the kernels that a function launches on a GPU are captured once and then replayed with one launch.

A graph runs the same kernels on the same memory, so it gives the same bits as the function; decisions of the host
within the function are fixed at the capture. The first calls run without a graph: libraries load kernels and allocate
their workspaces then, which a capture does not allow.
"""

from collections import Counter
from collections.abc import Callable, Hashable
from functools import cache

import torch

WARM_UP = 3  # calls of a shape before its capture


@cache
def own_stream(device: torch.device) -> torch.cuda.Stream:
    """The stream this process trains on: the default one cannot be captured, and cuBLAS keeps a workspace for each."""
    return torch.cuda.Stream(device)


class Replays:
    """Runs `work(shape)` by one graph for each shape. Call it on one stream that is not the default one.

    `work` is an argument of each call and not kept: the object it belongs to would keep the graphs' memory alive. All
    graphs share one memory pool: each may overwrite another's results there, and none reads them. Where the work cannot
    be captured, `refused` is called once with the reason, `recover` restores the objects on the host, and from then on
    the work runs without a graph.
    """

    def __init__(self, refused: Callable[[str], None]):
        self._refused = refused
        self._calls: Counter[Hashable] = Counter()
        self._graphs: dict[Hashable, torch.cuda.CUDAGraph] = {}
        self._pool = torch.cuda.graph_pool_handle()
        self.able = True

    def __call__(self, work: Callable[[Hashable], None], shape: Hashable, recover: Callable[[], None]) -> None:
        self._calls[shape] += 1
        if self.able and self._calls[shape] > WARM_UP and shape not in self._graphs:
            self._capture(work, shape, recover)
        if shape in self._graphs:
            self._graphs[shape].replay()
        else:
            work(shape)

    def _capture(self, work: Callable[[Hashable], None], shape: Hashable, recover: Callable[[], None]) -> None:
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool, stream=torch.cuda.current_stream()):
                work(shape)
        except RuntimeError as error:  # a capture runs nothing, so the device's memory is unchanged
            self.able = False
            recover()
            reason = error.__context__ or error  # the first error: ending a failed capture raises another one over it
            self._refused(next(iter(str(reason).splitlines()), type(reason).__name__))
        else:
            self._graphs[shape] = graph
