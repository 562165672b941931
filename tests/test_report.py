"""What programs read: `--json` and `--jsonl` keep to the published schemas."""

import io
import json
import math

import jsonschema
import pytest

from minigpt_repl.engine.request import (
    Finished,
    Generation,
    Request,
    Started,
    Token,
    TokenChosen,
    TokenScore,
)
from minigpt_repl.formats import Timings, encode, schema
from minigpt_repl.report import JsonWriter, generation_to_json
from minigpt_repl.sampling.registry import all_samplers


def validator(name: str) -> jsonschema.Draft202012Validator:
    described = schema(name)
    jsonschema.Draft202012Validator.check_schema(described)
    return jsonschema.Draft202012Validator(described)


def make_generation(sampler: str = "top_k", **changes) -> Generation:
    spec = next(spec for spec in all_samplers() if spec.name == sampler)
    tokens = (
        Token(40, "cat", TokenScore(-0.5, 1, 2.0, 0.9)),
        Token(41, "##s", TokenScore(-3.25, 17, 2.0, 0.9)),
        Token(42, "."),
    )
    request = Request("the “강아지” ", sampler, spec.defaults(), length=3, seed=7)
    arguments = {
        "request": request,
        "started": Started((5, 6), 7, 2, ("강아지",)),
        "tokens": tokens,
        "text": " cats.",
        "raw_text": "cats .",
        "stop_reason": "length",
        "timings": Timings(0.0, 0.01, 0.02),
        "checkpoint_sha256": "ab" * 32,
    }
    return Generation(**(arguments | changes))


@pytest.mark.parametrize("sampler", [spec.name for spec in all_samplers()])
def test_a_generation_keeps_to_its_schema_for_every_sampler(sampler):
    line = encode(generation_to_json(make_generation(sampler)))
    assert "\n" not in line
    content = json.loads(line)
    validator("generation").validate(content)
    assert content["sampler"]["name"] == sampler


def test_a_generation_says_what_it_is_made_of():
    content = json.loads(encode(generation_to_json(make_generation())))
    assert content["prompt"] == "the “강아지” "
    assert content["text"] == " cats."
    assert content["tokens"] == [
        {"id": 40, "text": "cat", "logprob": -0.5, "rank": 1},
        {"id": 41, "text": "##s", "logprob": -3.25, "rank": 17},
        {"id": 42, "text": ".", "logprob": None, "rank": None},
    ]
    assert content["sampler"]["parameters"] == {"k": 10, "temperature": 1.0}
    assert content["seed"] == 7
    assert content["stop_reason"] == "length"
    assert content["timings"] == {
        "load_s": 0,
        "first_token_s": 0.01,
        "decode_s": 0.02,
        "rows": 1,
        "tokens": 0,
    }
    assert content["unknown_words"] == ["강아지"]
    assert content["cropped"] == 2
    assert content["checkpoint_sha256"] == "ab" * 32


def test_an_impossible_token_is_valid_json_still():
    impossible = Token(3, "a", TokenScore(-math.inf, 71, math.nan, 0.0))
    line = encode(generation_to_json(make_generation(tokens=(impossible,))))
    content = json.loads(line, parse_constant=pytest.fail)
    validator("generation").validate(content)
    assert content["tokens"][0]["logprob"] is None


def test_a_token_event_keeps_to_its_schema():
    out = io.StringIO()
    writer = JsonWriter(out, with_tokens=True)
    made = make_generation()
    for row in range(3):
        writer.watch(row, made.started)
        for index, (token, delta) in enumerate(
            zip(made.tokens, (" cat", "s", "."), strict=True)
        ):
            writer.watch(row, TokenChosen(index, token, delta))
        writer.watch(row, Finished(made))
    lines = map(json.loads, out.getvalue().splitlines())
    contents = [line for line in lines if line["type"] == "token"]
    for content in contents:
        validator("token").validate(content)
    told = [(line["text_index"], line["index"], line["delta"]) for line in contents]
    assert told[-3:] == [(2, 0, " cat"), (2, 1, "s"), (2, 2, ".")]


def test_the_schema_refuses_what_readers_do_not_expect():
    content = json.loads(encode(generation_to_json(make_generation())))
    check = validator("generation")
    for name in content.keys() - {"noise"}:  # which 0.1.0 did not have
        with pytest.raises(jsonschema.ValidationError):
            check.validate({key: content[key] for key in content if key != name})
    with pytest.raises(jsonschema.ValidationError):
        check.validate(content | {"stop_reason": "eos"})
    with pytest.raises(jsonschema.ValidationError):
        check.validate(content | {"surprise": 1})
