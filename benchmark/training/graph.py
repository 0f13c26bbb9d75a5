"""CUDA graphs: what a function launches on a GPU is recorded once and from then on replayed with one launch.

A graph runs the same kernels on the same memory, so it gives the bits that the function gives; what the host decides
within the function is decided for good. The first calls are made as they are: libraries load kernels and take their
workspaces then, which a capture does not allow.
"""

from collections import Counter
from collections.abc import Callable, Hashable
from functools import cache

import torch

WARM_UP = 3  # calls of a shape before its capture


@cache
def own_stream(device: torch.device) -> torch.cuda.Stream:
    """The one that this process trains on: only such a one can be captured, and cuBLAS keeps a workspace for each."""
    return torch.cuda.Stream(device)


class Replays:
    """`work(shape)` by a graph for each shape. To be called on one stream, which is not the default one.

    `work` is given with each call and not kept: with what it belongs to a graph's memory would be kept, too. All graphs
    share one memory pool: each may overwrite what another left there, and none reads it. Where the work cannot be
    captured, `refused` is called once with the reason, `recover` undoes what its objects on the host went through, and
    it is done as it is from then on.
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
        except RuntimeError as error:  # a capture runs nothing, so on the device nothing is half done
            self.able = False
            recover()
            reason = error.__context__ or error  # the first: the end of a broken capture raises over it
            self._refused(next(iter(str(reason).splitlines()), type(reason).__name__))
        else:
            self._graphs[shape] = graph
