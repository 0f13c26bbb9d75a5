"""Two ways to make training batches: packed pixels; and files with PIL, torchvision's transforms and a DataLoader."""

from pathlib import Path

from visual_decathlon.benchmark.perf.rounds import Variant
from visual_decathlon.benchmark.runs.data import ensure_standins
from visual_decathlon.datasets.annotations import read_split
from visual_decathlon.datasets.batches import Batches, whole_pack
from visual_decathlon.datasets.catalogue import DOMAINS
from visual_decathlon.datasets.pack import pack


def variants(cache: Path, epochs: int = 10) -> list[Variant]:
    """Ours, `epochs` over a stand-in domain, and the usual way once: batches of 64, crop 64 of 72, flip, normalise."""
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset
    from torchvision import transforms

    split = read_split(ensure_standins(cache), DOMAINS["aircraft"], "train")
    domain = split.domain
    ours = Batches([whole_pack(pack(split, cache / "packs", 72))], domain, crop=64, batch=64)
    change = [transforms.RandomCrop(64)] + [transforms.RandomHorizontalFlip()] * domain.flip
    change = transforms.Compose([*change, transforms.ToTensor(), transforms.Normalize(domain.mean, domain.std)])

    class Files(Dataset):
        """The images of the split, read from files."""

        def __len__(self):
            return len(split)

        def __getitem__(self, i):
            return change(Image.open(split.root / split.files[i]).convert("RGB")), int(split.labels[i])

    loader = DataLoader(Files(), batch_size=64, shuffle=True)

    def fast() -> int:
        return sum(len(y) for epoch in range(epochs) for _, y in ours.train(0, epoch))

    def slow() -> int:
        return sum(len(y) for _, y in loader)

    return [Variant("packed pixels", fast), Variant("PIL DataLoader, no workers", slow)]
