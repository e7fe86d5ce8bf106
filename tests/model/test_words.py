"""Text becomes words in any script, nothing of a word is lost, and words become the same text again."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.words import join, part, tokenize

HINDI = "एक कुत्ता समुद्र तट पर दौड़ रहा है"

SPACED = {
    "Hindi": HINDI,
    "Bengali": "বাদামী কুকুর বালিতে খেলছে",
    "Tamil": "ஒரு நாய் கடற்கரையில் ஓடுகிறது",
    "Arabic with vowels": "كَلْبٌ يَرْكُضُ",
    "Hebrew with points": "כֶּלֶב רָץ",
    "Persian with joiners": "سگ می‌رود",
    "Sinhala with joiners": "ශ්‍රී ලංකා",
    "Vietnamese": "một con chó chạy trên bãi biển",
    "Korean": "개가 해변을 달린다",
    "Turkish": "i̇stanbul güzel",
}

UNSPACED = {
    "Chinese": ("一只狗在海滩上奔跑", "一 只 狗 在 海 滩 上 奔 跑"),
    "Chinese beyond the BMP": ("𠮷野家的狗", "𠮷 野 家 的 狗"),
    "Chinese with Latin and digits": ("3只穿t恤的狗", "3 只 穿 t 恤 的 狗"),
    "Japanese": ("犬がボールで遊ぶ", "犬 が ボ ー ル で 遊 ぶ"),
    "narrow katakana": ("ﾊﾟﾝﾀﾞ", "ﾊﾟ ﾝ ﾀﾞ"),
    "Thai": ("สุนัขวิ่ง", "สุ นั ข วิ่ ง"),
    "Thai with AM": ("น้ำ", "น้ำ"),
    "Lao": ("ໝາແລ່ນ", "ໝ າ ແ ລ່ ນ"),
    "Khmer with consonants below": ("កម្ពុជា", "ក ម្ពុ ជា"),
    "Myanmar with consonants below": ("ကမ္ဘာ", "က မ္ဘာ"),
}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A tri-colored dog isn't here .", ["a", "tri", "colored", "dog", "isn't", "here"]),
        ("Two men, 3 dogs!", ["two", "men", "3", "dogs"]),
        ("snake_case and ümlaut", ["snake", "case", "and", "ümlaut"]),
        ("'quoted' <start>", ["quoted'", "start"]),
        (" . - ", []),
    ],
)
def test_text_becomes_lower_case_words_of_letters_digits_and_apostrophes(text: str, words: list[str]) -> None:
    assert tokenize(text) == words


@pytest.mark.parametrize("text", SPACED.values(), ids=SPACED.keys())
def test_letters_keep_their_marks(text: str) -> None:
    assert tokenize(text) == unicodedata.normalize("NFC", text).split(" ")
    assert join(tokenize(text)) == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("L’herbe d’été", ["l'herbe", "d'été"]),
        ("aujourdʼhui, c＇est", ["aujourd'hui", "c'est"]),
        ("it’s the dogs’ ‘ball’", ["it's", "the", "dogs", "ball"]),
        ("zwölf Häu\u00adser", ["zwölf", "häuser"]),
        ("cafe\u0301 CAFÉ", ["café", "café"]),
        ("dog\u200b\u2028runs\u0085on", ["dog", "runs", "on"]),
        ("\u0301 \u200d a\u200d b", ["a", "b"]),
        ("☺️ a 👩‍🚀 waves", ["a", "waves"]),
        ("禰󠄀 ﬁ", ["禰", "ﬁ"]),
    ],
)
def test_one_word_is_written_in_one_way(text: str, words: list[str]) -> None:
    assert tokenize(text) == words


@pytest.mark.parametrize(("text", "words"), UNSPACED.values(), ids=UNSPACED.keys())
def test_where_a_script_has_no_blanks_each_character_is_a_word(text: str, words: str) -> None:
    assert tokenize(text) == words.split(" ")
    assert join(tokenize(text)) == text


def test_captions_that_are_parted_already_keep_their_words() -> None:
    assert tokenize("一只 狗 在 海滩，上", "words") == ["一只", "狗", "在", "海滩", "上"]
    assert join(["一只", "狗", "在", "海滩"]) == "一只狗在海滩"
    assert tokenize("สุนัข วิ่ง", "words") == ["สุนัข", "วิ่ง"]
    assert [piece for word in ("一只", "狗", "t恤") for piece in part(word)] == ["一", "只", "狗", "t", "恤"]


@pytest.mark.parametrize("word", ["tri-colored", ".", "<unk>", "कुत्ता", "l’herbe", "ÉTÉ", "狗。"])
def test_words_of_other_captioners_lose_nothing(word: str) -> None:
    assert part(word) == [word]


SCRIPTS = st.text(
    st.one_of(
        st.characters(),
        st.sampled_from("".join(SPACED.values())),
        st.sampled_from("".join(text for text, _ in UNSPACED.values())),
        st.sampled_from(" aZ9_-.'’\u0301\u0308\u200d\u200c\u00ad"),
    ),
    max_size=30,
)


@given(SCRIPTS, st.sampled_from(["auto", "words"]))
def test_words_stay_the_same_when_split_again(text: str, tokenizer: str) -> None:
    words = tokenize(text, tokenizer)  # type: ignore[arg-type]
    assert tokenize(" ".join(words), tokenizer) == words  # type: ignore[arg-type]


@given(SCRIPTS)
def test_no_word_begins_within_a_character(text: str) -> None:
    for word in tokenize(text):
        assert unicodedata.category(word[0])[0] in "LN", word
        assert not any(char.isspace() or unicodedata.category(char) in ("Cc", "Zl", "Zp") for char in word)


@given(SCRIPTS)
def test_both_tokenizers_have_the_same_letters_and_marks(text: str) -> None:
    """Nothing is dropped where words are parted but apostrophes and joiners at their ends."""

    def letters(words: list[str]) -> str:
        return re.sub("['\u200c\u200d]", "", "".join(words))

    assert letters(tokenize(text)) == letters(tokenize(text, "words"))


@given(st.text(st.characters(max_codepoint=0x24F, exclude_characters="\u00adİ")))
def test_latin_text_has_the_words_that_it_always_had(text: str) -> None:
    """Of models that are trained: what their vocabularies hold, and what their captions were scored by."""
    assert tokenize(text) == re.findall(r"[^\W_](?:[^\W_]|')*", unicodedata.normalize("NFC", text.lower()))


@given(st.lists(st.sampled_from(["a", "dog", "isn't", "été", "3"])))
def test_words_of_latin_letters_are_joined_by_blanks(words: list[str]) -> None:
    assert join(words) == " ".join(words)


def test_words_of_two_scripts_are_joined_as_people_write_them() -> None:
    assert join(["穿", "t", "恤", "的", "狗"]) == "穿t恤的狗"
    assert join(["a", "dog", "in", "北", "京"]) == "a dog in北京"
    assert join(["สุนัข", "วิ่ง", "3", "ตัว"]) == "สุนัขวิ่ง 3 ตัว"
