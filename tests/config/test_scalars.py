"""Plain words of YAML: what they mean to the reference, whose reader knows another YAML than PyYAML."""

import math

import pytest

from warmroute.config.document import parse_document
from warmroute.config.effective import Effective
from warmroute.config.errors import ConfigError
from warmroute.config.scalars import plain, tagged


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("Null", None),
        ("yes", True),
        ("Off", False),
        ("TRUE", True),
        ("tRUE", "tRUE"),
        ("y", "y"),
        ("0", 0),
        ("-0", 0),
        ("+12", 12),
        ("8_000", 8000),
        ("017", 15),
        ("0o17", 15),
        ("0x1F", 31),
        ("-0b11", -3),
        ("089", 89),
        ("0.5", 0.5),
        (".5", 0.5),
        ("5.", 5),
        ("1e3", 1000),
        ("1E-2", 0.01),
        ("8000.0", 8000),
        ("1e300", 1e300),
        (".inf", math.inf),
        ("-.Inf", -math.inf),
        ("1:30", "1:30"),
        ("190:20:30.15", "190:20:30.15"),
        ("2024-01-01", "2024-01-01"),
        ("2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z"),
        ("10.0.0.1", "10.0.0.1"),
        ("1.2.3", "1.2.3"),
        ("-", "-"),
        ("+", "+"),
        (".", "."),
        ("e3", "e3"),
        ("0b", "0b"),
        ("=", "="),
        ("<<", "<<"),
        ("٣", "٣"),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_plain_words(text, value):
    found = plain(text)
    assert (found, type(found)) == (value, type(value))


def test_nan():
    assert math.isnan(plain(".nan"))


@pytest.mark.parametrize(
    ("tag", "text", "value"),
    [("str", "1", "1"), ("int", "7", 7), ("float", "7", 7), ("bool", "no", False), ("null", "", None), ("binary", "aGk=", "hi")],
)
def test_tagged_words(tag, text, value):
    assert tagged(f"tag:yaml.org,2002:{tag}", text) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: !!python/object/apply:os.system x", "x:1: a: the tag !!python/object/apply:os.system is not known"),
        ("a: !mine {b: 1}", "x:1: a: the tag !mine is not known"),
        ("a: !!int b", "x:1: a: is no !!int"),
        ("a: !!binary '*'", "x:1: a: is no !!binary"),
        ("a: !!binary /w==", "x:1: a: is no !!binary"),
    ],
)
def test_tags_that_cannot_be_read_are_told_with_their_line(text, message):
    with pytest.raises(ConfigError) as refused:
        parse_document(text, "x")
    assert str(refused.value) == message


@pytest.mark.parametrize(
    "text", ["1e3", "0o17", "1:30", "2024-01-01", "yes", "y", "null", "", "=", "<<", "8_0", ".5", "a: b", "x # y", "a\nb", "- a", "*a", "!a"]
)
def test_what_is_written_is_read_as_it_was(text):
    page = Effective("x", {"name": text}, {"name": "here"}).as_yaml()
    assert parse_document(page, "x").data == {"name": text}
