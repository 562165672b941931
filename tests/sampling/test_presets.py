"""Preset files of other programs as chains."""

import json

import pytest

from minigpt_repl.errors import UsageError
from minigpt_repl.sampling.presets import DEFAULTS, read_preset
from minigpt_repl.sampling.registry import read_sampler

SILLYTAVERN = {
    "temp": 1.2,
    "temperature_last": True,
    "top_p": 0.95,
    "top_k": 0,
    "typical_p": 1,
    "min_p": 0.02,
    "epsilon_cutoff": 3,
    "rep_pen": 1.05,
    "rep_pen_range": 2048,
    "freq_pen": 0,
    "dynatemp": False,
    "min_temp": 0,
    "max_temp": 2,
    "dry_multiplier": 0.8,
    "dry_base": 1.75,
    "dry_allowed_length": 2,
    "dry_sequence_breakers": '["\\n", ":", "*"]',
    "xtc_probability": 0.5,
    "xtc_threshold": 0.08,
    "smoothing_factor": 0.2,
}
LLAMA_SERVER = {
    "temperature": 0.7,
    "top_k": 40,
    "min_p": 0.05,
    "repeat_penalty": 1.1,
    "repeat_last_n": -1,
    "typical_p": 0.9,
    "n_predict": 128,
    "samplers": ["temperature", "top_k", "penalties", "typ_p", "min_p"],
}


@pytest.mark.parametrize(
    ("fields", "text", "unknown"),
    [
        (
            SILLYTAVERN,
            "repetition_penalty:penalty=1.05,window=2048 + "
            'dry:multiplier=0.8,breakers="\\n : *" + epsilon_cutoff=0.0003 + '
            "top_p=0.95 + min_p=0.02 + xtc:probability=0.5,threshold=0.08 + "
            "temperature=1.2",
            ("smoothing_factor",),
        ),
        (
            LLAMA_SERVER,
            "temperature=0.7 + top_k=40 + repetition_penalty=1.1 + typical_p=0.9 + "
            "min_p=0.05",
            ("n_predict",),
        ),
        (
            {"temp": 0.9, "temperature_last": False, "min_p": 0.1},
            "temperature=0.9 + min_p=0.1",
            (),
        ),
        (
            {"dynatemp": True, "min_temp": 0.5, "max_temp": 1.5, "top_k": 20.0},
            "top_k=20 + dynamic_temperature=1",
            (),
        ),
        (
            {"top_k": 20, "min_p": 0.1, "samplers": ["min_p", "foo", "top_k", "xtc"]},
            "min_p=0.1 + top_k=20",
            ("foo of samplers",),
        ),
        (
            {
                "top_k": 20,
                "min_p": 0.1,
                "samplers": ["min_p", "top_k"],
                "temperature_last": False,
            },
            "min_p=0.1 + top_k=20",
            (),
        ),
        (
            {
                "adaptive_target": 0.4,
                "top_k": 20,
                "samplers": ["dynamic_temperature", "top_k", "infill", "adaptive_p"],
            },
            "top_k=20 + adaptive_p=0.4",
            ("dynamic_temperature of samplers", "infill of samplers"),
        ),
        (
            {"temp": 0.7, "sampler_order": [6, 0]},
            "temperature=0.7",
            ("sampler_order (the order is llama.cpp's)",),
        ),
        ({"mirostat": 2, "mirostat_tau": 4, "top_k": 40}, "mirostat=4", ()),
        ({"adaptive_target": 0.3, "min_p": 0.1}, "min_p=0.1 + adaptive_p=0.3", ()),
    ],
)
def test_a_preset_is_a_chain(fields, text, unknown):
    preset = read_preset(json.dumps(fields), "preset.json")
    assert (preset.text, preset.unknown) == (text, unknown)
    spec, values = read_sampler(preset.text)
    assert spec.stages and values


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"top_p": 7}', "top_p: p must be a number 0 < p <= 1; got 7"),
        ('{"temp": "hot"}', "temp: temperature must be a number"),
        ('{"dry_multiplier": 1, "dry_sequence_breakers": 5}', "is a list of texts"),
        ('{"dynatemp": true, "min_temp": 1}', "dynatemp needs min_temp and max_temp"),
        ("{}", "has no stage that does anything; it has nothing"),
        ('{"a": 1}', "it has 'a'"),
        ('{"top_k": "x"}', "preset.json: top_k: k must be"),
        ("null", "no JSON object"),
        ("not json", "is no preset: it is not JSON"),
    ],
)
def test_a_bad_preset_is_one_line(content, words):
    with pytest.raises(UsageError, match=words) as error:
        read_preset(content, "preset.json")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", DEFAULTS)
def test_the_defaults_are_chains(name):
    spec, _ = read_sampler(name)
    assert spec.text(read_values(name)) == DEFAULTS[name]


def read_values(name):
    spec, typed = read_sampler(name)
    return spec.check({n: spec.parameter(n).parse(t) for n, t in typed.items()})
