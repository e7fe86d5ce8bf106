"""A real language model, too small to know anything, behind a real server of OpenAI's protocol.

The model is a Llama whose weights are written rather than learned: after each word it knows one next word, so
that what it will say is known. ``transformers serve`` serves it as it would any other.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

BEGINNING = "A small brown dog wakes up early, shakes off its dreams and runs out into tall wet grass."
MIDDLE = "Soon two men stand still on that rock, laughing, while clouds drift by above them all."
STEERED = "Without warning rain begins to fall, soft at first, then loud as any drum could be."
LOOP = ("again", "it", "barks")
SAYS = {"<first>": BEGINNING, "<on>": MIDDLE, "<steered>": STEERED, "<silent>": ""}
"""What it says after which of the marks that its chat template ends a chat with."""

TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}> {{ message.content }} {% endfor %}"
    "{% set asked = messages[-1].content %}"
    "{% if 'Direction: loop' in asked %}<loop>"
    "{% elif 'Direction: silence' in asked %}<silent>"
    "{% elif 'Direction:' in asked %}<steered>"
    "{% elif messages | length > 2 %}<on>"
    "{% else %}<first>{% endif %}"
)


def make_language_model(directory: Path) -> Path:
    """Save the model and its tokenizer, as transformers loads them."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    chains = [[mark, *text.split(), "<end>"] for mark, text in SAYS.items()]
    chains.append(["<loop>", *LOOP, LOOP[0]])
    follows: dict[str, str] = {}
    for chain in chains:
        for word, following in pairwise(chain):
            assert follows.setdefault(word, following) == following, f"{word} stands in two texts"
    marks = ["<unknown>", "<end>", "<system>", "<user>", "<assistant>", *SAYS, "<loop>"]
    words = list(dict.fromkeys([*marks, *follows, *follows.values()]))
    ids = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unknown>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unknown>", eos_token="<end>")
    fast.chat_template = TEMPLATE
    width = -(-len(words) // 16) * 16
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(words),
            hidden_size=width,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=4,
            max_position_embeddings=8192,
            bos_token_id=None,
            eos_token_id=ids["<end>"],
            pad_token_id=ids["<end>"],
        )
    )
    with torch.no_grad():
        for parameter in model.model.layers.parameters():
            parameter.zero_()  # what goes in comes out: the next word depends on the last one alone
        model.model.embed_tokens.weight.copy_(torch.eye(len(words), width))
        model.lm_head.weight.zero_()
        for word, following in follows.items():
            model.lm_head.weight[ids[following], ids[word]] = 8.0
    model.save_pretrained(directory)
    fast.save_pretrained(directory)
    return directory


@contextmanager
def language_model_server(model: Path, log: Path) -> Iterator[str]:
    """Serve the model; the base URL of the endpoint."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        *(str(Path(sys.executable).with_name("transformers")), "serve", str(model)),
        *("--host", "127.0.0.1", "--port", str(port), "--device", "cpu"),
    ]
    quiet = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(log.parent / "hub"), "DO_NOT_TRACK": "1"}
    environment = {**os.environ, **quiet, "OMP_NUM_THREADS": "1"}
    (log.parent / "hub/hub").mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        try:
            _wait_for(f"http://127.0.0.1:{port}/health", server, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _wait_for(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                json.load(answer)
                return
        except OSError:
            time.sleep(0.3)
    raise RuntimeError(f"transformers serve does not answer:\n{log.read_text(errors='replace')[-3000:]}")
