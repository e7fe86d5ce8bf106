"""What training sees: batches of pictures, or of features that the encoder gave of them once."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.runtime.progress import log_progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from model.captioner import CaptionNetwork
    from model.training.recipe import Recipe
    from model.training.run_stage import Data
    from pipeline.datasets.captioned_pictures import CaptionedPictures


def store_views(
    data: Path, folder: Path, network: CaptionNetwork, recipe: Recipe, channels: str = "rgb"
) -> None:
    """Features of the train and val pictures, in `folder`; those that this encoder gave already are kept.

    `channels`: the order that the encoder wants.
    """
    import torch

    from model.training.distributed import here, wait_for_all
    from model.training.run_stage import encode_views
    from pipeline.datasets.captioned_pictures import CaptionedPictures, store_features

    me = here()
    encoder = _digest(network.encoder)
    for split in ("train", "val"):
        views = recipe.feature_views if split == "train" else 1
        pictures = CaptionedPictures(data, split, channels=channels)

        def encode(pixels: NDArray[np.uint8], first: int, views: int = views) -> NDArray[np.float16]:
            generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + first)
            features = encode_views(network, torch.from_numpy(pixels), views, recipe, generator)
            array: NDArray[np.float16] = features.numpy()
            return array

        store_features(
            encode,
            pictures,
            folder / f"features-{split}.hdf5",
            made_by=f"encoder {encoder}, {views} views, seed {recipe.seed}, {_name(pictures)}"
            + (", bgr" if channels == "bgr" else ""),
            share=(me.rank, me.world),
            meet=wait_for_all,
            progress=log_progress(f"{split} pictures encoded"),
        )


def _name(pictures: CaptionedPictures) -> str:
    """What tells one split's pictures from another's."""
    return f"{len(pictures)} pictures of {pictures.manifest.get('fingerprint') or pictures.manifest['base']}"


def _digest(module: nn.Module) -> str:
    """What tells one set of weights from another: in half precision, as checkpoints have them."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        kept = tensor.half() if tensor.is_floating_point() else tensor
        digest.update(name.encode())
        digest.update(kept.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def load_data(data: Path, recipe: Recipe, features: Path | None, channels: str = "rgb") -> Data:
    """Batches of pictures, or of stored features where `features` names their folder."""
    import torch
    from torch.utils.data import DataLoader

    from model.training.distributed import here
    from model.training.lightning_modules import CaptionBatch
    from model.training.run_stage import Data
    from pipeline.datasets.batch_sampler import EpochBatches
    from pipeline.datasets.captioned_pictures import CaptionedPictures
    from pipeline.runtime.socket_paths import shorten_socket_paths

    me = here()

    def collate(arrays: Any) -> CaptionBatch:
        return CaptionBatch(**{name: torch.from_numpy(values) for name, values in arrays.items()})

    def load(split: str) -> tuple[Any, CaptionedPictures]:
        stored = features / f"features-{split}.hdf5" if features else None
        pictures = CaptionedPictures(data, split, features=stored, channels=channels)
        batches = EpochBatches(
            len(pictures),
            recipe.batch_size,
            seed=recipe.seed,
            shuffle=split == "train",
            rank=me.rank,
            world=me.world,
        )
        loader: Any = DataLoader(
            pictures,  # type: ignore[arg-type]
            batch_sampler=batches,
            num_workers=recipe.workers,
            persistent_workers=recipe.workers > 0,
            collate_fn=collate,
        )
        return loader, pictures

    if recipe.workers > 0:
        shorten_socket_paths()
    train, train_pictures = load("train")
    validation, pictures = load("val")
    return Data(train, validation, train_pictures.references, pictures.references)
