"""What the benchmark works on: photographs, films, and networks with random weights."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import nn

from model.captioner import CaptionNetwork, CheckpointConfig, SearchDefaults, build_network, save_network
from model.checkpoint import BUNDLED
from model.decoders.registry import AttentionLSTM
from model.preprocessing import Preparation
from model.vocabulary import END, PAD, START, UNKNOWN, Vocabulary
from pipeline.runtime.cpu_limits import available_cores
from tests.media import PHOTOGRAPHS, has_ffmpeg, pan, photograph, write_frames

PHOTOGRAPH_SIZE = (1024, 768)
_QUALITY = 95  # of JPEG: some 200 KB a photograph
_COUNT = 0.1  # what the counting unit's memory grows by with each word
_END_SLOPE = 30.0  # of the end word's logit over the counting unit's output
_END_AT = 15  # words after which the end word is as likely as others; a search ends earlier, at about ten
_END_LOGIT = 10.0


def write_photographs(folder: Path, count: int, *, seed: int = 0) -> list[Path]:
    """JPEGs of 1024 x 768 pixels, some 200 KB each: sections of sample photographs, some of them mirrored."""
    folder.mkdir(parents=True, exist_ok=True)
    originals = [Image.fromarray(photograph(name)) for name in PHOTOGRAPHS]
    paths = [folder / f"{number:06d}.jpg" for number in range(count)]

    def write(number: int) -> None:
        chooser = random.Random(f"{seed}/{number}")
        section = _section(originals[number % len(originals)], chooser)
        section.save(paths[number], quality=_QUALITY)

    with ThreadPoolExecutor(available_cores()) as pool:
        list(pool.map(write, range(count)))
    return paths


def _section(original: Image.Image, chooser: random.Random) -> Image.Image:
    wide, high = PHOTOGRAPH_SIZE
    width = min(original.width, original.height * wide / high) * chooser.uniform(0.6, 1)
    height = width * high / wide
    left, top = chooser.uniform(0, original.width - width), chooser.uniform(0, original.height - height)
    box = (left, top, left + width, top + height)
    section = original.resize(PHOTOGRAPH_SIZE, Image.Resampling.LANCZOS, box=box)
    return ImageOps.mirror(section) if chooser.random() < 0.5 else section


def write_film(
    path: Path, *, seconds: float, fps: int, size: tuple[int, int], preset: str = "veryfast"
) -> Path:
    """A film of slow pans over photographs, five seconds each: H.264 where ffmpeg is there, else MPEG-4."""
    frames = _pans(round(seconds * fps), 5 * fps, size)
    if not has_ffmpeg():
        return write_frames(path, frames, fps=fps, size=size)
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = f"{size[0]}x{size[1]}"
    command = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24"]
    command += ["-s", shape, "-r", str(fps), "-i", "pipe:", "-c:v", "libx264", "-preset", preset]
    command += ["-pix_fmt", "yuv420p", str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as encoder:
        assert encoder.stdin is not None
        for frame in frames:
            encoder.stdin.write(np.ascontiguousarray(frame).data)
        encoder.stdin.close()
        if encoder.wait():
            raise RuntimeError("ffmpeg could not write the film")
    return path


def _pans(count: int, frames_each: int, size: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    names = list(PHOTOGRAPHS)
    for number, first in enumerate(range(0, count, frames_each)):
        yield from pan(names[number % len(names)], min(frames_each, count - first), size=size)


def bundled_or_like_it(folder: Path) -> Path:
    """The checkpoint that ships; without one, a network of its size with random weights."""
    if BUNDLED.is_dir():
        return BUNDLED
    options: dict[str, int | str] = {
        "embedding_size": 300,
        "attention": "dot",
        "attention_size": 256,
        "feature_size": 512,
    }
    return random_checkpoint(folder, "mobilenet_v2", words=2600, options=options)


def random_checkpoint(
    folder: Path,
    encoder: str,
    *,
    words: int,
    options: dict[str, int | str] | None = None,
    size: int = 256,
    seed: int = 0,
) -> Path:
    """Write a checkpoint with random weights whose captions are as long as real ones: about ten words.

    The decoder is an attention LSTM with its default sizes (512) but for `options`. Random weights would end
    captions at once or never, and the cost of decoding would be anything; `_count_words` sees to that.
    """
    marks = (UNKNOWN, START, END)
    vocabulary = Vocabulary((PAD, *(f"word{n}" for n in range(words)), *marks))
    config = CheckpointConfig(
        name=f"random-{encoder}",
        encoder={"name": encoder, "grid": None},
        decoder={"name": "attention_lstm", "options": options or {}},
        preparation=Preparation(size=size),
        search=SearchDefaults(),
        training={},
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build_network(config, vocabulary)
        _calibrate(network, Preparation(min(size, 128)))
        _sharpen(network.decoder)
        _count_words(network.decoder, vocabulary.end)
    save_network(folder, config, vocabulary, network)
    return folder


def _calibrate(network: CaptionNetwork, prepare: Preparation) -> None:
    """Give BatchNorm the statistics of photographs: without them, random features are all alike."""
    pictures = np.stack([prepare(photograph(name)) for name in PHOTOGRAPHS])
    norms = [module for module in network.encoder.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        network.encoder.train()(torch.from_numpy(pictures))
    for norm in norms:
        norm.momentum = 0.1
    network.eval()


def _sharpen(decoder: AttentionLSTM) -> None:
    """Let the layers react strongly, so that pictures differ in their captions and words in their odds."""
    for name, parameter in decoder.named_parameters():
        if parameter.dim() == 2:
            scale = 5.0 if name.startswith("output") else 3.0
            parameter.data.normal_(std=scale / parameter.shape[1] ** 0.5)


def _count_words(decoder: AttentionLSTM, end: int) -> None:
    """Make one unit of the LSTM count words, and the end word listen to nothing else.

    The unit's gates stand open or shut whatever they see, so its memory grows by `_COUNT` with each word and
    its output is tanh of that. The end word's logit is far below the others' at first and far above later.
    """
    size, unit = decoder.query.in_features, 0
    with torch.no_grad():
        rows = [gate * size + unit for gate in range(4)]  # enter, forget, update, leave
        for row, bias in zip(rows, (20.0, 20.0, _COUNT, 20.0), strict=True):
            decoder.word_gates.weight[row] = 0
            decoder.state_gates.weight[row] = 0
            decoder.word_gates.bias[row] = bias
        for layer in (decoder.start_hidden, decoder.start_memory):
            layer.weight[unit] = 0
            layer.bias[unit] = 0
        decoder.output.weight[:, unit] = 0
        decoder.output.weight[end] = 0
        decoder.output.weight[end, unit] = _END_SLOPE
        turn = torch.tanh(torch.tensor(_COUNT * _END_AT))
        decoder.output.bias[end] = _END_LOGIT - _END_SLOPE * float(turn)
