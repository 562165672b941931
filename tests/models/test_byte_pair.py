"""Byte-level BPE: every text comes back, and one split is used everywhere."""

import itertools
import json

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt_repl.errors import CheckpointError
from minigpt_repl.models.causal_lm import (
    BYTE_PIECES,
    MiniGPTBytePairTokenizer,
    learn_byte_pairs,
)
from minigpt_repl.models.checkpoint import load_checkpoint, save_checkpoint
from minigpt_repl.models.record import read_record
from minigpt_repl.models.text.bytelevel import SPLIT_PATTERNS, ByteLevelText

TEXTS = (
    "The alter Mann said [BOS] and <|endoftext|>: it's  fine.\n\n\tif x == 1:\n",
    "ㅋㅋㅋ İpek می\u200cخواهم 👨\u200d👩\u200d👧\u200d👦 e\u0301 ﬁ \u00a0\u3000",
    '<p class="a" >https://example.com/x?y=1</p>,1,2,345678\r\n',
)


def made(texts=TEXTS, size=400, **options):
    pieces, merges = learn_byte_pairs(texts * 9, size)
    ids = {piece: place for place, piece in enumerate(pieces)}
    return MiniGPTBytePairTokenizer(ids, merges, **options)


@pytest.fixture(scope="module")
def tokenizer():
    return made()


@pytest.fixture(scope="module")
def text(tokenizer):
    return ByteLevelText(tokenizer.get_vocabulary())


def encoded(tokenizer, text):
    return tokenizer(text).tolist()


@pytest.mark.parametrize("written", TEXTS)
def test_what_was_written_comes_back(tokenizer, text, written):
    ids = encoded(tokenizer, written)
    assert text.text_of(ids) == written
    assert "".join(text.parts("", (), ids)) == written
    assert len(ids) < len(written.encode())


@settings(max_examples=300, deadline=None)
@given(
    written=st.lists(
        st.one_of(
            st.text(),
            st.sampled_from(["[BOS]", "[PAD]", "<|endoftext|>", "\u200d", " ", "\n"]),
        )
    ).map("".join)
)
def test_any_text_comes_back_and_none_is_a_command(tokenizer, text, written):
    ids = encoded(tokenizer, written)
    assert text.text_of(ids) == written
    assert not {0, 1, 2} & set(ids)


def test_bytes_alone_do_it_too():
    ids = {piece: place for place, piece in enumerate(BYTE_PIECES)}
    tokenizer = MiniGPTBytePairTokenizer(ids, [])
    assert tokenizer.vocabulary_size() == 259
    for written in TEXTS:
        ids = encoded(tokenizer, written)
        assert len(ids) == len(written.encode())
        assert ByteLevelText(BYTE_PIECES).text_of(ids) == written


def test_the_split_is_a_regular_expression(tokenizer):
    # Taken letter by letter, as KerasHub gives it on, it would not split at all.
    learned = made(("the cat sat. " * 9,), 300)
    assert " ".join(learned.get_vocabulary()).count("Ġcat") == 1
    assert not [piece for piece in learned.get_vocabulary() if "Ġ" in piece[1:]]


def test_it_is_not_used_inside_tf_data(tokenizer):
    import tensorflow as tf

    with pytest.raises((ValueError, AttributeError)):
        list(tf.data.Dataset.from_tensor_slices([TEXTS[0]]).map(tokenizer))


def test_a_batch_and_the_one_text_agree(tokenizer):
    rows = tokenizer(list(TEXTS))
    assert [list(row) for row in rows] == [encoded(tokenizer, each) for each in TEXTS]


def test_streams_show_whole_characters(tokenizer, text):
    ids = {piece: place for place, piece in enumerate(BYTE_PIECES)}
    single, plain = MiniGPTBytePairTokenizer(ids, []), ByteLevelText(BYTE_PIECES)
    decoder = plain.decoder("", ())
    parts = [decoder.push(id) for id in encoded(single, "aㅋ👨b")]
    assert parts == ["a", "", "", "ㅋ", "", "", "", "👨", "b"]
    assert decoder.flush() == ""
    decoder.push(encoded(single, "ㅋ")[0])
    assert decoder.flush() == "\N{REPLACEMENT CHARACTER}"


def test_the_end_of_a_document_stands_between_two():
    lines = ByteLevelText(BYTE_PIECES, "line")
    ids = {piece: place for place, piece in enumerate(BYTE_PIECES)}
    a, b = ids["a"], ids["b"]
    assert lines.end_id == 2 and lines.special_ids == {0, 1}
    assert lines.parts("", (), [a, 2, b, 2]) == ["a", "", "\nb", ""]
    # A text that has come to its end goes on with another document.
    assert lines.parts("a", (a, 2), [b]) == ["\nb"]
    assert lines.parts("a\n", (a, 2), [b]) == ["b"]
    paragraphs = ByteLevelText(BYTE_PIECES, "paragraph")
    assert "".join(paragraphs.parts("", (), [a, 2, b])) == "a\n\nb"
    none = ByteLevelText(BYTE_PIECES)
    assert none.end_id is None and none.special_ids == {0, 1, 2}


def test_a_line_break_ends_a_document_of_lines(saved):
    from minigpt_repl.models.causal_lm import language_model

    encode = language_model(saved[1]).encode
    anna, bo = encode("Anna"), encode("Bo")
    assert encode("Anna\nBo") == (*anna, 2, *bo)
    assert encode("\nAnna\n \nBo\n") == (*anna, 2, *bo, 2)
    assert encode("\n") == ()
    lines = ByteLevelText(BYTE_PIECES, "line")
    assert lines.healing("Anna\n") == ("", None)
    assert lines.healing("Anna\n ")[0] == " "
    space, letter = map(lines.pieces.index, ("Ġ", "a"))
    begun = lines.decoder("Anna\n ", (*anna, 2))
    assert [begun.push(space), begun.push(letter)] == ["", "a"]  # not another line
    paragraphs = ByteLevelText(BYTE_PIECES, "paragraph")
    assert paragraphs.documents("a\nb\n \n\nc\n") == ["a\nb", "c\n"]
    assert paragraphs.healing("a\n")[0] == "\n"
    assert ByteLevelText(BYTE_PIECES, "file").documents("a\n\nb") == ["a\n\nb"]


CODE = "def f(x):\n    if x:\n\t\treturn x, 1\n\n\nThe moon,\n    and I.\n"


def test_a_prompt_is_split_as_the_text_was():
    tokenizer = made((CODE,))
    text = ByteLevelText(tokenizer.get_vocabulary())
    ids = encoded(tokenizer, CODE * 2)
    for end in range(1, len(CODE)):
        prompt = CODE[:end]
        kinds = [(x.isspace(), x.isalnum()) for x in (prompt[-1], CODE[end])]
        if kinds[0] != kinds[1]:
            taken, first_ids = text.healing(prompt)
            known = encoded(tokenizer, prompt.removesuffix(taken))
            assert ids[: len(known)] == known
            assert first_ids is None or ids[len(known)] in first_ids


@pytest.mark.parametrize(
    ("written", "ends"),
    [
        ("It is so.", True),
        ('"Is it so?"', True),
        ("Mr. Smith", False),
        ("Mr.", False),
        ("3.", False),
        ("so", False),
        ("老人说。", True),
    ],
)
def test_ends_of_sentences(tokenizer, text, written, ends):
    decoder = text.decoder("So ", encoded(tokenizer, "So "))
    *before, last = encoded(tokenizer, written)
    for token_id in before:
        decoder.push(token_id)
    assert decoder.ends_sentence(last) == ends


def test_a_piece_can_be_seen(tokenizer, text):
    ids = encoded(tokenizer, " said")
    assert "".join(map(text.visible, ids)) == "·said"
    assert text.visible(2) == "[BOS]"
    assert ByteLevelText(BYTE_PIECES).visible(BYTE_PIECES.index("ã")) == "\\xe3"


GPT_2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


@pytest.fixture
def saved(tmp_path):
    from minigpt_repl import lm

    keras.utils.set_random_seed(1)
    tokenizer = made(document="line", split_pattern=GPT_2)
    backbone = lm.MiniGPTBackbone(
        vocabulary_size=tokenizer.vocabulary_size(),
        num_layers=1,
        num_heads=2,
        hidden_dim=16,
        intermediate_dim=16,
        max_sequence_length=32,
    )
    preprocessor = lm.MiniGPTCausalLMPreprocessor(tokenizer, sequence_length=32)
    causal_lm = lm.MiniGPTCausalLM(backbone, preprocessor)
    save_checkpoint(tmp_path / "model", causal_lm, {})
    return tmp_path / "model", causal_lm


def test_a_checkpoint_keeps_it_with_its_pattern(saved):
    folder, causal_lm = saved
    record = read_record(folder)
    assert (record.tokenizer, record.document) == ("bpe", "line")
    assert not record.lowercase
    config = json.loads((folder / "tokenizer.json").read_text())["config"]
    assert config["split_pattern"] == GPT_2
    tokenizer = load_checkpoint(folder).causal_lm.preprocessor.tokenizer
    ours = causal_lm.preprocessor.tokenizer
    assert tokenizer.get_config() == ours.get_config()
    for written in TEXTS:
        assert encoded(tokenizer, written) == encoded(ours, written)


@pytest.mark.parametrize("pattern", [r"(a+)+$", "", None, 7, [GPT_2]])
def test_a_split_that_may_take_for_ever_is_refused(saved, pattern):
    folder, _ = saved
    for name in ("tokenizer.json", "preprocessor.json", "task.json"):
        content = (folder / name).read_text()
        changed = content.replace(json.dumps(GPT_2), json.dumps(pattern))
        (folder / name).write_text(changed)
    with pytest.raises(CheckpointError, match="splits text by") as refused:
        load_checkpoint(folder, verify=False)
    assert "\n" not in str(refused.value)


def test_keras_hubs_own_split_is_known():
    from keras_hub.src.tokenizers import byte_pair_tokenizer

    assert byte_pair_tokenizer.SPLIT_PATTERN_TOKENIZERS in SPLIT_PATTERNS


@pytest.mark.slow
def test_keras_hub_generates_from_it(saved):
    from keras_hub.models import CausalLM

    model = CausalLM.from_preset(str(saved[0]))
    assert model.generate("ㅋㅋㅋ", max_length=12).startswith("ㅋㅋㅋ")


@pytest.mark.parametrize("name", ["vocabulary.json", "merges.txt"])
def test_a_file_that_is_gone_is_named(saved, name):
    folder, _ = saved
    (folder / "assets" / "tokenizer" / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        load_checkpoint(folder)
    with pytest.raises(CheckpointError, match=name):
        load_checkpoint(folder, verify=False)


@pytest.mark.slow
def test_the_engine_makes_texts_of_it(saved):
    from minigpt_repl.engine.request import Finished, Request
    from minigpt_repl.engine.worker import load_engine

    engine = load_engine(saved[0])
    assert engine.info.text.end_id == 2
    for prompt in TEXTS:
        request = Request(prompt, "top_k", {"k": 300, "temperature": 3.0}, 20, seed=1)
        events = list(engine.generate(request))
        generation = events[-1].generation
        assert isinstance(events[-1], Finished)
        taken, _ = engine.info.text.healing(prompt)
        prompt_ids = engine.encode(prompt.removesuffix(taken))
        assert generation.started.prompt_ids == prompt_ids[-30:]
        assert generation.text == "".join(
            engine.info.text.parts(prompt, prompt_ids, generation.token_ids)
        )
        assert generation.started.unknown_words == ()
    engine.close()


@pytest.mark.slow
def test_a_text_stops_where_its_document_ends(saved):
    from minigpt_repl.engine.request import Request
    from minigpt_repl.engine.worker import load_engine

    folder, causal_lm = saved
    # A model that is sure of the end.
    embedding = causal_lm.backbone.token_embedding
    head = causal_lm.head
    bias = np.zeros(head.bias.shape)
    bias[2] = 100.0
    head.bias.assign(bias)
    assert embedding is not None
    save_checkpoint(folder, causal_lm, {})
    engine = load_engine(folder)
    for sampler, values in (("greedy", {}), ("beam", {"num_beams": 2})):
        for stop, count in (("end", 1), ("none", 5)):
            request = Request("a", sampler, values, 5, seed=1, stop=stop)
            (*_, last) = engine.generate(request)
            assert len(last.generation.tokens) == count
            assert last.generation.text.strip("\n") == ""
    engine.close()


HEALED = {
    "random": {"temperature": 5.0},
    "top_p": {"temperature": 5.0, "p": 0.9},
    "beam": {"num_beams": 2},
    "contrastive": {"k": 40, "alpha": 1.0},
}


@pytest.mark.slow
def test_a_prompt_that_ends_in_white_space_means_it(saved):
    from minigpt_repl.engine.request import Request
    from minigpt_repl.engine.worker import load_engine

    engine = load_engine(saved[0])
    text = engine.info.text
    for prompt, sampler in itertools.product(
        ("The ", "The\n", " ", "fine.\nThe ", "x  ", "a\u3000"), HEALED
    ):
        values = HEALED[sampler]
        taken, first_ids = text.healing(prompt)
        assert prompt.endswith(taken)
        for seed in range(3 if "temperature" in values else 1):
            request = Request(prompt, sampler, values, 4, seed=seed)
            (*_, last) = engine.generate(request)
            made = last.generation
            if first_ids is not None:
                assert made.token_ids[0] in first_ids
                assert text.bytes_of(made.token_ids[0]).startswith(taken.encode())
            ids = (*made.started.prompt_ids, *made.token_ids)
            written = [text.bytes_of(id) or b"\n" for id in ids]
            whole = b"".join(written).decode("utf-8", "replace")
            assert (prompt + made.text).rstrip("\n") == whole.rstrip("\n")
            parts = text.parts(prompt, made.started.prompt_ids, made.token_ids)
            assert "".join(parts) == made.text
    assert text.healing("The ")[0] == " " and text.healing("The") == ("", None)
    engine.close()
