"""Damage for files: bytes, numbers in headers, members of archives, words that mean harm.

All of it follows from a generator, so that a case can be made again from its number.
"""

import io
import json
import re
import struct
import zipfile
from collections.abc import Callable

import numpy as np

Rng = np.random.Generator

HUGE = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**48, 2**63 - 1, 2**64 - 1)
"""What whole numbers in headers are replaced by."""

WORDS = (
    b"../../escape", b"/tmp/escape", b"evil_module:Boom", b"convnet:evil_module",
    b"\x1b[2J\x1b]0;x",
    b"<script>alert(1)</script>", b"=cmd|' /C calc'!A0", b"\\input{/etc/passwd}", b"[red]x[/blue]",
    b"\xff\xfe", b"\xed\xa0\x80", b"\\ud800", b"\x00", b"CON", b"a" * 5000, b"9" * 5000, b"1e999",
    b"-1", b"NaN", b"Infinity", b"null", b"{}", b"[]", b'""', b"[" * 3000, b'{"a":' * 3000, b"true",
    b"a." * 3000 + b"a=1", b"0x" + b"f" * 2000, b"\r\n", b"\xe2\x80\xae", b"0.0", b"1e-320", b'"',
    b"999999999999", b"~nobody/x", b"',", b"x=1\n", b"\n[made]\n",
    b"cposix\nsystem\n(S'touch x'\ntR.",
)  # fmt: skip
"""What text is replaced by, or has put in."""


def flip(data: bytearray, rng: Rng) -> None:
    for _ in range(int(rng.integers(1, 9))):
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))


def overwrite(data: bytearray, rng: Rng) -> None:
    at = int(rng.integers(len(data)))
    size = int(rng.integers(1, 17))
    data[at : at + size] = rng.bytes(len(data[at : at + size]))


def truncate(data: bytearray, rng: Rng) -> None:
    del data[int(rng.integers(len(data))) :]


def repeat(data: bytearray, rng: Rng) -> None:
    a, b = _piece(data, rng)
    data[b:b] = data[a:b] * int(rng.integers(1, 5))


def leave_out(data: bytearray, rng: Rng) -> None:
    a, b = _piece(data, rng)
    del data[a:b]


def move(data: bytearray, rng: Rng) -> None:
    """Put one piece where another was."""
    (a, b), (c, d) = _piece(data, rng), _piece(data, rng)
    data[a:b] = data[c:d]


def number(data: bytearray, rng: Rng) -> None:
    """Write a huge or odd whole number somewhere, mostly near the start."""
    reach = len(data) if rng.random() < 0.4 else min(len(data), 64)
    at, size = int(rng.integers(reach)), int(rng.choice([1, 2, 4, 8]))
    order = "little" if rng.random() < 0.6 else "big"
    value = HUGE[int(rng.integers(len(HUGE)))] % 2 ** (8 * size)
    data[at : at + size] = value.to_bytes(size, order)


def digits(data: bytearray, rng: Rng) -> None:
    """Replace a number written in digits."""
    found = list(re.finditer(rb"\d+", bytes(data[:100_000])))
    if found:
        one = found[int(rng.integers(len(found)))]
        value = HUGE[int(rng.integers(len(HUGE)))]
        data[one.start() : one.end()] = str(value * int(rng.choice([1, 1, -1]))).encode()


def word(data: bytearray, rng: Rng) -> None:
    """Replace a value between quotes, or after ``=``, ``:`` or a comma; else put a word in."""
    new = WORDS[int(rng.integers(len(WORDS)))]
    found = list(
        re.finditer(rb'"[^"\n]*"|(?<=[=:,\[] )[\w.+-]+|(?<=,)[\w.+-]+', bytes(data[:100_000]))
    )
    if found and rng.random() < 0.8:
        one = found[int(rng.integers(len(found)))]
        quoted = b'"' + new + b'"' if rng.random() < 0.5 else new
        data[one.start() : one.end()] = quoted
        return
    at = int(rng.integers(len(data) + 1))
    data[at:at] = new


MUTATIONS = (flip, overwrite, truncate, repeat, leave_out, move, number, digits, word)


def _piece(data: bytearray, rng: Rng) -> tuple[int, int]:
    a = int(rng.integers(len(data)))
    return a, min(len(data), a + int(rng.integers(1, max(2, len(data) // 4))))


def mutate(content: bytes, rng: Rng) -> bytes:
    """Damage bytes in one to three ways."""
    data = bytearray(content)
    for _ in range(int(rng.choice([1, 1, 2, 3]))):
        if data:
            MUTATIONS[int(rng.integers(len(MUTATIONS)))](data, rng)
    return bytes(data[: 4 * len(content) + 100_000])


def mutate_member(content: bytes, rng: Rng) -> bytes:
    """Damage one member of a zip archive and pack it again, with a sum that fits."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    short = [i for i, (_, data) in enumerate(members) if len(data) < 4096]
    chosen = (
        int(rng.choice(short)) if short and rng.random() < 0.7 else int(rng.integers(len(members)))
    )
    buffer = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if rng.random() < 0.2 else zipfile.ZIP_STORED
    with zipfile.ZipFile(buffer, "w", kind) as archive:
        for i, (name, data) in enumerate(members):
            archive.writestr(name, mutate(data, rng) if i == chosen else data)
    return buffer.getvalue()


def mutate_header(content: bytes, rng: Rng) -> bytes:
    """Damage the header of a safetensors file and write a length that fits."""
    (size,) = struct.unpack("<Q", content[:8])
    header = mutate(content[8 : 8 + size], rng)
    if rng.random() < 0.5:
        header = _other_facts(content[8 : 8 + size], rng)
    return struct.pack("<Q", len(header)) + header + content[8 + size :]


def _other_facts(header: bytes, rng: Rng) -> bytes:
    """Replace a value deep in a JSON header, the text in its metadata as well."""
    facts = json.loads(header)
    if "__metadata__" in facts and rng.random() < 0.7:
        key = next(iter(facts["__metadata__"]))
        facts["__metadata__"][key] = mutate_json(facts["__metadata__"][key].encode(), rng).decode()
        return json.dumps(facts).encode()
    return mutate_json(header, rng)


def mutate_json(content: bytes, rng: Rng) -> bytes:
    """Replace one value of a JSON document by another kind of value; it stays JSON."""
    facts = json.loads(content)
    places: list[tuple[dict | list, str | int]] = []

    def walk(value: object) -> None:
        keys = (
            list(value)
            if isinstance(value, dict)
            else range(len(value))
            if isinstance(value, list)
            else ()
        )
        for key in keys:
            places.append((value, key))
            walk(value[key])

    walk(facts)
    if places:
        holder, key = places[int(rng.integers(len(places)))]
        holder[key] = _odd(rng, holder[key])
    return json.dumps(facts).encode()


def _odd(rng: Rng, old: object) -> object:
    odd = (
        *(None, True, -1, 0, 10**18, 10**400, 1.5, -0.0, 1e300, 1e-320, float("nan"), float("inf")),
        *("", "x" * 5000, "../x", "\x1b[2J", "\ud800", "\u202e", "=1+1", "<b>", "evil_module:Boom"),
        *([], {}, [[]], [old], [old] * 1000, {"a": old}, [10**9] * 3, ["a"], [0.0], str(old)),
    )
    return odd[int(rng.integers(len(odd)))]


def either(*ways: Callable[[bytes, Rng], bytes]) -> Callable[[bytes, Rng], bytes]:
    """Return a mutation that is one of several, evenly."""
    return lambda content, rng: ways[int(rng.integers(len(ways)))](content, rng)
