"""State dicts that cannot become a captioner: one line says which file, what is wrong and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision import models

from pipeline.checkpoint_import.importer import import_checkpoint
from pipeline.errors import BadInput
from tests.pipeline.checkpoint_import.originals import captionbot, show_and_tell
from tests.pipeline.checkpoint_import.originals.lessons import WORDS, pickled

pytestmark = pytest.mark.slow

State = dict[str, torch.Tensor]


def write(folder: Path, **networks: Any) -> dict[str, str]:
    """Files by the names of what is in them."""
    folder.mkdir(exist_ok=True)
    for name, content in networks.items():
        torch.save(content, folder / name)
    return {name: str(folder / name) for name in networks}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What both kinds of captioner consist of, by name."""
    folder = tmp_path_factory.mktemp("files")
    resnet = models.resnet18()
    bot, tellers = captionbot.Vocab_Builder(WORDS), show_and_tell.Vocabulary(WORDS)
    teller = show_and_tell.DecoderRNN(8, 12, len(tellers.idx2word), 1, "linear")
    return {
        **write(
            folder,
            bot_encoder=captionbot.EncoderCNN(resnet).state_dict(),
            bot_decoder={"state_dict": captionbot.Decoder(256, 12, 8, len(bot.itos), 6).state_dict()},
            teller_encoder=show_and_tell.EncoderCNN(resnet, 512, 8).state_dict(),
            other_encoder=show_and_tell.EncoderCNN(resnet, 512, 9).state_dict(),
            teller_decoder=teller.state_dict(),
        ),
        "bot_words": str(pickled(folder / "bot_words", "vocab", bot)),
        "teller_words": str(pickled(folder / "teller_words", "vocabulary", tellers)),
        "few_words": str(pickled(folder / "few_words", "vocabulary", show_and_tell.Vocabulary(WORDS[:5]))),
    }


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("bot_decoder bot_words", "bot_decoder is only half of a captioner: name its encoder too"),
        ("bot_encoder bot_words", "bot_encoder is only half of a captioner: name its decoder too"),
        ("teller_decoder teller_words", "name its encoder too, .* called encoder-N.pkl"),
        ("teller_encoder teller_words", "name its decoder too, .* decoderEpoch_N.pth or decoder-N.pkl"),
        ("teller_encoder other_encoder teller_decoder teller_words", "hold encoders both; give one"),
        ("bot_encoder bot_decoder", "bot_decoder needs its vocabulary: .* vocab.pickle"),
        ("teller_encoder teller_decoder", "teller_decoder needs its vocabulary: .* vocab.pkl"),
        ("bot_encoder bot_decoder few_words", "few_words has 8 words, .*bot_decoder was trained with 44"),
        ("other_encoder teller_decoder teller_words", "other_encoder: embed.weight does not fit .* training"),
        ("bot_decoder teller_encoder bot_words", "bot_decoder is only half of a captioner"),
        ("teller_words", "teller_words is a vocabulary; give the checkpoint"),
    ],
)
def test_what_is_missing_or_does_not_fit_is_named(
    files: dict[str, str], given: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=said) as caught:
        import_checkpoint([files[name] for name in given.split()], str(tmp_path / "checkpoint"))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def without(name: str) -> Callable[[State], Any]:
    return lambda state: {key: value for key, value in state.items() if key != name}


def changed(name: str, value: torch.Tensor) -> Callable[[State], Any]:
    return lambda state: {**state, name: value}


@pytest.mark.parametrize(
    ("part", "change", "said"),
    [
        ("teller_decoder", without("linear.bias"), "lacks linear.bias"),
        ("teller_decoder", changed("linear.weight", torch.zeros(45, 13)), "linear.weight does not fit"),
        ("teller_decoder", changed("lstm.bias_hh_l0", torch.zeros(48, dtype=torch.long)), "does not fit"),
        (
            "teller_decoder",
            changed("lstm.weight_ih_l0_reverse", torch.zeros(48, 8)),
            "_reverse, which is not",
        ),
        ("teller_decoder", changed("embed.weight", torch.zeros(8)), "embed.weight does not fit"),
        ("teller_encoder", without("resnet.7.1.conv2.weight"), "its resnet is none that is known here"),
        ("teller_encoder", changed("bn.weight", torch.zeros(8)), "bn.weight, which is not known here"),
    ],
)
def test_another_network_is_refused_by_what_is_other(
    files: dict[str, str], part: str, change: Callable[[State], Any], said: str, tmp_path: Path
) -> None:
    state = torch.load(files[part], weights_only=True)
    (changed_file,) = write(tmp_path / "other", **{part: change(state)}).values()
    kept = [files[name] for name in ("teller_encoder", "teller_decoder", "teller_words") if name != part]
    with pytest.raises(BadInput, match=said) as caught:
        import_checkpoint([changed_file, *kept], str(tmp_path / "checkpoint"))
    assert str(caught.value).startswith(changed_file)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without("f_beta.weight"), "lacks f_beta.weight"),
        (changed("lstm.weight_ih", torch.zeros(48, 300)), "lstm.weight_ih does not fit"),
        (changed("dense.weight", torch.zeros(3)), "dense.weight, which is not known here"),
    ],
)
def test_captionbots_decoder_is_checked_too(
    files: dict[str, str], change: Callable[[State], Any], said: str, tmp_path: Path
) -> None:
    state = torch.load(files["bot_decoder"], weights_only=True)["state_dict"]
    (decoder,) = write(tmp_path / "other", decoder={"state_dict": change(state)}).values()
    with pytest.raises(BadInput, match=said):
        import_checkpoint([decoder, files["bot_encoder"], files["bot_words"]], str(tmp_path / "checkpoint"))


def test_an_encoder_cut_elsewhere_is_refused(files: dict[str, str], tmp_path: Path) -> None:
    state = torch.load(files["bot_encoder"], weights_only=True)
    shorter = {name: tensor for name, tensor in state.items() if not name.startswith("resnet.6.")}
    (encoder,) = write(tmp_path / "other", encoder=shorter).values()
    with pytest.raises(BadInput, match="cut at its third block"):
        import_checkpoint([encoder, files["bot_decoder"], files["bot_words"]], str(tmp_path / "checkpoint"))


def test_files_of_training_on_several_gpus_are_the_same(files: dict[str, str], tmp_path: Path) -> None:
    """DataParallel puts "module." before every name."""
    names = ("teller_encoder", "teller_decoder")
    states = {name: torch.load(files[name], weights_only=True) for name in names}
    wrapped = write(
        tmp_path / "several",
        **{name: {f"module.{key}": value for key, value in state.items()} for name, state in states.items()},
    )
    import_checkpoint([*wrapped.values(), files["teller_words"]], str(tmp_path / "checkpoint"))
    assert (tmp_path / "checkpoint" / "model.safetensors").stat().st_size > 40_000_000
