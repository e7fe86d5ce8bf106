"""What `gpucapt coco-results` does: captions of COCO's pictures, as its evaluation server takes them.

In: a JSON object with `images`, each with `id` and `file_name` (`image_info_test2014.json`, or any
annotations of COCO). Out: `[{"image_id": 1, "caption": "a dog runs"}, …]`, in the order of the list. What is
done meanwhile lies in `OUT.part`: a line that says with what, then a line for each picture.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import json
import logging
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from model.errors import GpucaptError
from pipeline.errors import BadInput, WrongUsage, one_line
from pipeline.models.resolve import Model, resolve_model
from pipeline.records.settings import CaptionSettings, Resources
from pipeline.runtime.progress import log_progress
from pipeline.storage import staging
from pipeline.storage.versions import OURS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from model.captioner import Captioner

_log = logging.getLogger("gpucapt")
_LONGEST_HEADER = 1 << 16


@dataclass(frozen=True, slots=True)
class Listed:
    """A picture of COCO's list."""

    id: int
    file_name: str


def read_list(path: Path, url: str) -> list[Listed]:
    """The pictures that a file of COCO lists. Raises GpucaptError where it lists none."""
    try:
        images = json.loads(staging.read_file(path, url).decode("utf-8-sig"))["images"]
        found = [Listed(one["id"], one["file_name"]) for one in images]
    except FileNotFoundError as error:
        raise GpucaptError(f"{url}: there is no such file") from error
    except BadInput as error:
        raise GpucaptError(str(error)) from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise GpucaptError(
            f"{url} is not a list of pictures as COCO's: it has no `images` with `id` and `file_name`"
        ) from error
    for one in found:
        if type(one.id) is not int:
            raise GpucaptError(f"{url} is not a list of pictures as COCO's: an `id` is no number")
        if not isinstance(one.file_name, str):
            raise GpucaptError(f"{url} is not a list of pictures as COCO's: a `file_name` is no text")
    if not found:
        raise GpucaptError(f"{url} lists no pictures")
    if len({one.id for one in found}) < len(found):
        raise GpucaptError(f"{url} lists two pictures with the same `id`")
    return found


class CocoResults:
    """Captions of a list of pictures, with one model and one set of settings."""

    def __init__(self, settings: CaptionSettings, resources: Resources) -> None:
        self._settings = settings
        self._resources = resources

    def run(self, image_info: str, images: str, out: str) -> int:
        """Caption what is not done yet and write OUT; the exit status."""
        staging.check_output_file(out)
        with staging.input_file(image_info) as path:
            listed = read_list(path, image_info)
        read = _safe_reader(images)
        _refuse_inputs(out, image_info, images, listed)
        model = resolve_model(self._settings.model)
        with staging.output_file(out) as target, _part(target, self._header(model, listed), out) as part:
            todo = [one for one in listed if one.id not in part.done]
            if part.done:
                _log.info("going on after %d pictures", len(part.done))
            self._caption(model, todo, read, part)
            done = _publish(part, listed, target)
        print(f"{one_line(out)}: {done} of {len(listed)} pictures")
        return 0 if done == len(listed) else 3

    def _header(self, model: Model, listed: list[Listed]) -> dict[str, Any]:
        """What the results follow from: where it is another, they do not go on from one another."""
        pictures = hashlib.sha256(json.dumps([[one.id, one.file_name] for one in listed]).encode())
        settings = self._settings.of_rows("stills")
        return {"weights": model.weights, "pictures": pictures.hexdigest(), **settings}

    def _caption(
        self, model: Model, todo: Sequence[Listed], read: Callable[[str], bytes], part: _Part
    ) -> None:
        if not todo:
            return
        from model.captioner import load_captioner

        captioner = load_captioner(
            model.directory, device=self._resources.device, precision=self._settings.precision
        )
        size = self._resources.batch_size or captioner.default_batch_size()
        report = log_progress("pictures captioned")
        new = 0
        for batch in _batches(self._prepared(captioner, todo, read, ahead=2 * size), size):
            good = [(one, picture) for one, picture in batch if picture is not None]
            captions = captioner.caption(
                [picture for _, picture in good],
                beam_size=self._settings.beam_size,
                max_length=self._settings.max_length,
            )
            part.add({one.id: said.text for (one, _), said in zip(good, captions, strict=True)})
            new += len(good)
            report(new, len(todo))

    def _prepared(
        self, captioner: Captioner, todo: Iterable[Listed], read: Callable[[str], bytes], *, ahead: int
    ) -> Iterator[tuple[Listed, NDArray[np.uint8] | None]]:
        """Pictures in their order, decoded by threads, at most so many ahead; None for one that is bad."""
        from pipeline.media.images import decode_still

        def prepare(one: Listed) -> NDArray[np.uint8]:
            picture = decode_still(read(one.file_name), one.file_name, whole=captioner.prepare.whole)
            return captioner.prepare(picture)

        waiting: deque[tuple[Listed, Future[NDArray[np.uint8]]]] = deque()
        with ThreadPoolExecutor(self._resources.workers) as threads:
            try:
                for one in itertools.chain(todo, [None] * ahead):
                    if one is not None:
                        waiting.append((one, threads.submit(prepare, one)))
                    if waiting and (one is None or len(waiting) >= ahead):
                        yield _result(*waiting.popleft())
            finally:
                threads.shutdown(cancel_futures=True)


def _result(one: Listed, future: Future[NDArray[np.uint8]]) -> tuple[Listed, NDArray[np.uint8] | None]:
    try:
        return one, future.result()
    except BadInput as error:
        _log.warning("left out: %s", error)
    except OSError as error:
        _log.warning("left out: %s: %s", one_line(one.file_name), error.strerror)
    return one, None


def _batches(
    prepared: Iterator[tuple[Listed, NDArray[np.uint8] | None]], size: int
) -> Iterator[list[tuple[Listed, NDArray[np.uint8] | None]]]:
    while batch := list(itertools.islice(prepared, size)):
        yield batch


def _safe_reader(images: str) -> Callable[[str], bytes]:
    """Reads pictures of a folder by name; a name that leads out of it is a bad picture."""
    read = staging.reader(images)

    def safe(name: str) -> bytes:
        if name.startswith("/") or ".." in name.split("/") or "\0" in name:
            raise BadInput(f"{name}: the name leads out of the folder of pictures")
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise BadInput(f"{name}: the name is no valid text") from error
        return read(name)

    return safe


def _refuse_inputs(out: str, image_info: str, images: str, listed: Sequence[Listed]) -> None:
    """Raises WrongUsage where OUT is the list itself or a picture of it."""
    there = staging.identity(out)
    if there is None:
        return
    if there == staging.identity(image_info):
        raise WrongUsage(f"{one_line(out)} is the list of pictures; name another file for the results")
    folder = images.rstrip("/")
    if any(there == staging.identity(f"{folder}/{one.file_name}") for one in listed):
        raise WrongUsage(f"{one_line(out)} is one of the pictures; name another file for the results")


class _Part:
    """What is captioned so far, on disk: a line a picture."""

    def __init__(self, file: IO[str], done: dict[int, str]) -> None:
        self._file = file
        self.done = done

    def add(self, captions: dict[int, str]) -> None:
        for image_id, caption in captions.items():
            self._file.write(json.dumps([image_id, caption], ensure_ascii=False) + "\n")
        self._file.flush()
        self.done.update(captions)


@contextmanager
def _part(target: Path, header: dict[str, Any], out: str) -> Iterator[_Part]:
    """The part of OUT, gone on with where it was made with the same model, pictures and settings."""
    path = target.with_name(f"{target.name}.part")
    staging.check_output_file(str(path))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise GpucaptError(f"{out} cannot be written: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise GpucaptError(f"another gpucapt is writing {out} at this moment; wait for it") from error
        except OSError:
            _log.debug("%s is on a disk that knows no locks", out)
        _refuse_other_parts(path)
        done, length = _read_part(path, header)
        file.truncate(length)
        if not length:
            file.write(json.dumps(header) + "\n")
        try:
            yield _Part(file, done)
        except BaseException:
            if not done:
                path.unlink()
            raise
        path.unlink()


def _refuse_other_parts(path: Path) -> None:
    """Raises GpucaptError where what lies there begins as no part does: it is somebody's."""
    with path.open("rb") as file:
        first = file.readline(_LONGEST_HEADER)
    try:
        found = json.loads(first or b"{}")
    except (ValueError, RecursionError):
        found = None
    if first and not (isinstance(found, dict) and found.keys() >= {"weights", "pictures"}):
        raise GpucaptError(f"{one_line(str(path))} is in the way and not ours; move it, or name another OUT")


def _read_part(path: Path, header: dict[str, Any]) -> tuple[dict[int, str], int]:
    """What a part has, and the length of what is whole of it in bytes: 0 where it was made otherwise."""
    done: dict[int, str] = {}
    length = 0
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                break  # killed while it was written
            try:
                content = json.loads(line)
            except ValueError:
                break
            if length == 0 and content != header:
                return {}, 0
            if length:
                done[content[0]] = content[1]
            length += len(line)
    return done, length


def _publish(part: _Part, listed: Sequence[Listed], target: Path) -> int:
    """Write OUT in the order of the list, whole or not at all; how many captions it has."""
    results = [(one.id, part.done[one.id]) for one in listed if one.id in part.done]
    if not results:
        raise GpucaptError("none of the pictures could be used")
    fresh = target.with_name(f"{OURS}{secrets.token_hex(8)}")
    try:
        with fresh.open("x", encoding="utf-8") as file:
            for number, (image_id, caption) in enumerate(results):
                line = json.dumps({"image_id": image_id, "caption": caption}, ensure_ascii=False)
                file.write(f"{',' if number else '['}\n{line}")
            file.write("\n]\n")
        fresh.replace(target)
    finally:
        fresh.unlink(missing_ok=True)
    return len(results)
