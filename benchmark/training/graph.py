"""CUDA graphs: what a function launches on a GPU is recorded once and from then on replayed with one launch.

A graph runs the same kernels on the same memory, so it gives the bits that the function gives; what the host decides
within the function is decided for good. The first calls are made as they are: libraries load kernels and take their
workspaces then, which a capture does not allow.
"""

from collections import Counter
from collections.abc import Callable, Hashable

import torch

WARM_UP = 3  # calls of a shape before its capture


class Replays:
    """`work(shape)` by a graph for each shape. To be called on one stream, which is not the default one.

    `work` is given with each call and not kept: with what it belongs to a graph's memory would be kept, too.

    All graphs share one memory pool: each may overwrite what another left there, and none reads it. Where the work
    cannot be captured it is done as it is from then on, and `refused` is called once with the reason.
    """

    def __init__(self, refused: Callable[[str], None]):
        self._refused = refused
        self._calls: Counter[Hashable] = Counter()
        self._graphs: dict[Hashable, torch.cuda.CUDAGraph] = {}
        self._pool = torch.cuda.graph_pool_handle()
        self.able = True

    def __call__(self, work: Callable[[Hashable], None], shape: Hashable) -> None:
        self._calls[shape] += 1
        if self.able and self._calls[shape] > WARM_UP and shape not in self._graphs:
            self._capture(work, shape)
        if shape in self._graphs:
            self._graphs[shape].replay()
        else:
            work(shape)

    def _capture(self, work: Callable[[Hashable], None], shape: Hashable) -> None:
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool, stream=torch.cuda.current_stream()):
                work(shape)
        except RuntimeError as error:  # a capture runs nothing, so nothing is half done
            self.able = False
            self._refused(next(iter(str(error).splitlines()), type(error).__name__))
        else:
            self._graphs[shape] = graph
