"""The vocabulary is the one KerasHub would learn, only sooner."""

import random
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt_repl.errors import CorpusError
from minigpt_repl.models.text.codec import normalize_text
from minigpt_repl.paths import cache_home
from minigpt_repl.training import vocabulary
from minigpt_repl.training.documents import Lines
from minigpt_repl.training.vocabulary import (
    RESERVED,
    count_words,
    learn_vocabulary,
    learn_wordpieces,
    prepared_vocabulary,
)

ENGLISH = [
    "The old king walked to the river, and the river walked to the sea.",
    "She said: \"I'm walking, walked, walker - and the talk's talking!\"",
    "Unhappily, the unhappiest kingdoms re-read their re-readings; 1,234 times.",
]
KOREAN = [
    "옛날에 작은 소년이 산에 살았습니다. 소년은 산을 사랑했습니다.",
    "소년의 집은 작았지만, 소년은 행복했습니다! 산에는 꽃이 피었습니다.",
]
MIXED = [
    "Der König grüßt die STRASSE, ÉTÉ à Paris; Ωμέγα και ΑΛΦΑ.",
    "Жил-был старик со старухой. 昔々、ある所に老人が住んでいました。",
    "مرحبا بالعالم، العالم كبير. ﬁne ½ Ⅷ İstanbul ǅ",
]


def reference(lines, size, lowercase=True):
    """What KerasHub itself learns from the lines."""
    import tensorflow as tf
    from keras_hub.tokenizers import compute_word_piece_vocabulary

    return compute_word_piece_vocabulary(
        tf.data.Dataset.from_tensor_slices(lines).batch(4),
        vocabulary_size=size,
        lowercase=lowercase,
        reserved_tokens=list(RESERVED),
    )


def sentences(lines, number, seed=1):
    """Many lines made of the given ones' words, some words far more often."""
    generator = random.Random(seed)
    words = sorted({word for line in lines for word in line.split()})
    weights = [1 / (1 + rank) for rank in range(len(words))]
    return [" ".join(generator.choices(words, weights, k=12)) for _ in range(number)]


@pytest.mark.slow
@pytest.mark.parametrize("lowercase", [True, False], ids=["folded", "cased"])
@pytest.mark.parametrize(
    "lines", [ENGLISH, KOREAN, MIXED], ids=["english", "korean", "mixed"]
)
@pytest.mark.parametrize("size", [60, 110, 180, 400])
def test_equals_kerashub(lines, lowercase, size):
    lines = sentences(lines, 300)
    words = learn_wordpieces(count_words(lines, lowercase), size, RESERVED)
    assert words == reference(lines, size, lowercase)


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(st.data())
def test_equals_kerashub_on_random_text(data):
    """Few letters, so that words share many parts and counts tie."""
    letters = data.draw(st.sampled_from(["ab", "abc", "aé가漢#.", "abcdefgh '"]))
    word = st.text(st.sampled_from(letters), min_size=1, max_size=9)
    words = data.draw(st.lists(word, min_size=1, max_size=25))
    times = data.draw(
        st.lists(st.integers(1, 60), min_size=len(words), max_size=len(words))
    )
    lines = [" ".join([w] * n) for w, n in zip(words, times, strict=True)]
    counts = count_words(lines)
    if not counts:  # only separators: KerasHub fails
        return
    size = data.draw(st.integers(8, 60))
    assert learn_wordpieces(counts, size, RESERVED) == reference(lines, size)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(max_size=60), min_size=1, max_size=6))
def test_words_are_counted_as_kerashub_splits_them(texts):
    import tensorflow as tf
    from keras_hub.src.tokenizers.word_piece_tokenizer import pretokenize

    whole = pretokenize(tf.constant(texts), True, False, True, True)
    expected = [word.decode() for word in whole.flat_values.numpy()]
    counts = count_words(texts)
    assert sum(counts.values()) == len(expected)
    assert counts == {word: expected.count(word) for word in expected}
    assert list(counts) == list(dict.fromkeys(expected))


def test_a_long_word_and_a_reserved_word_are_left_out():
    counts = {"x" * 51: 100, "[PAD]": 100, "abc": 100, "abd": 100}
    words = learn_wordpieces(counts, 30, RESERVED)
    assert words == ["[PAD]", "[UNK]", "[BOS]", *words[3:]]
    assert "abc" in words
    assert not any("x" in word for word in words)


def test_only_the_most_frequent_characters_get_in():
    rare = {chr(0x4E00 + number): 1 for number in range(1200)}
    words = learn_wordpieces({"the": 5000, **rare}, 5000, RESERVED)
    assert len([word for word in words if len(word) == 1]) == 1000
    assert chr(0x4E00) in words  # equally rare: the first in code point order
    assert chr(0x4E00 + 1199) not in words


def test_every_entry_survives_saving():
    """KerasHub strips each line of the file that it loads."""
    odd = [chr(code) for code in range(0x20, 0x3100)]
    lines = [normalize_text(f"a{c}b {c}c d{c}") for c in odd if c.isprintable()]
    words = learn_wordpieces(count_words(lines * 10), 20_000, RESERVED)
    assert [word for word in words if word != word.rstrip() or not word] == []


def test_hangul_stays_whole():
    lines = [normalize_text(unicodedata.normalize("NFD", line)) for line in KOREAN]
    words = learn_vocabulary(count_words(sentences(lines, 300)), 400)
    assert "소년은" in words
    assert not any(unicodedata.normalize("NFC", word) != word for word in words)


def test_accents_survive():
    words = learn_vocabulary(count_words(["Été à Nîmes"] * 20), 100)
    assert {"été", "à", "nîmes"} <= set(words)
    cased = learn_vocabulary(count_words(["Été à Nîmes"] * 20, lowercase=False), 100)
    assert {"Été", "à", "Nîmes"} <= set(cased)


def test_a_text_too_small_is_one_clear_line():
    with pytest.raises(CorpusError, match=r"from 4 words.*give more") as raised:
        learn_vocabulary(count_words(["a few words only"]), 5000)
    assert "\n" not in str(raised.value)


def test_a_text_without_words_is_one_clear_line():
    with pytest.raises(CorpusError, match="no words"):
        learn_vocabulary(count_words(["  ", ""]), 5000)


def test_more_characters_than_room_is_one_clear_line():
    lines = ["".join(chr(0xAC00 + n) + " " for n in range(200))] * 20
    with pytest.raises(CorpusError, match=r"200 different characters.* of 806"):
        learn_vocabulary(count_words(lines), 300)


def of(lines):
    """Fifty lines of the same words."""
    return Lines(tuple(sentences(lines, 50)))


@pytest.mark.usefixtures("empty_cache")
class TestPreparedVocabulary:
    LINES = of(ENGLISH)

    def test_is_learned_once(self, monkeypatch):
        first = prepared_vocabulary(self.LINES, 200)
        monkeypatch.setattr(vocabulary, "count_words", None)
        monkeypatch.setattr(vocabulary, "learn_vocabulary", None)
        assert prepared_vocabulary(self.LINES, 200) == first

    def test_another_size_uses_the_counts_again(self, monkeypatch):
        prepared_vocabulary(self.LINES, 200)
        monkeypatch.setattr(vocabulary, "count_words", None)
        other = prepared_vocabulary(self.LINES, 120)
        assert other == reference([*self.LINES.texts], 120)

    def test_other_lines_or_case_are_learned_anew(self):
        lines = self.LINES
        folded = prepared_vocabulary(lines, 200)
        cased = prepared_vocabulary(lines, 200, lowercase=False)
        korean = prepared_vocabulary(of(KOREAN), 200)
        assert "The" in cased and "The" not in folded
        assert "the" not in korean

    def test_a_damaged_file_is_made_again(self):
        first = prepared_vocabulary(self.LINES, 200)
        for path in cache_home().iterdir():
            path.write_bytes(path.read_bytes()[:-5])
        assert prepared_vocabulary(self.LINES, 200) == first
