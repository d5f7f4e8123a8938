"""Documents made to keep a reader busy: by size, by depth, by aliases, by the number of their faults."""

from tests.scenario.samples import CHAT

_MOST = 4_900_000  # characters; just within what is read at all


def _chat(old: str, new: str) -> str:
    assert old in CHAT
    return CHAT.replace(old, new)


def _classes(count: int, text: str) -> str:
    """Return a scenario with `count` more classes; `#` in `text` is the number of the class."""
    return _chat("pools:", "".join(f"    c{i}: {text.replace('#', str(i))}\n" for i in range(count)) + "pools:")


def _pools(count: int, text: str) -> str:
    return CHAT + "".join(f"  p{i}: {text.replace('#', str(i))}\n" for i in range(count))


def _many(count: int, text: str) -> str:
    return ", ".join(text.replace("#", str(i)) for i in range(count))


_SYNTAX = {
    "flow nesting": "[" * 1_000_000,
    "braces": "{" * 1_000_000,
    "nested mappings": "{a: " * 1_000_000,
    "dashes": "- " * 1_000_000,
    "question marks": "? " * 1_000_000,
    "block nesting": "".join(" " * i + "a:\n" for i in range(2000)),
    "colons": "a:" * 2_400_000,
    "only colons": ":" * _MOST,
    "newlines": "\n" * _MOST,
    "carriage returns": "\r" * _MOST,
    "blanks": " " * _MOST,
    "tabs": "\t" * _MOST,
    "comments": "#\n" * 2_400_000,
    "open quote": "'" + "\n" * _MOST,
    "escapes": '"' + "\\x41" * 1_200_000,
    "documents": "---\n" * 1_200_000,
    "document ends": "...\n" * 1_200_000,
    "directives": "%YAML 1.1\n" * 480_000,
    "tag directives": "".join(f"%TAG !a{i}! x\n" for i in range(200_000)) + "---\na: 1",
    "late tag directives": "a: 1\n...\n" + "".join(f"%TAG !a{i}! x\n" for i in range(200_000)) + "---\na: 1",
    "long tag": "- !" + "a" * _MOST + " x",
    "many tags": "\n".join("- !!str a" for _ in range(49_000)),
    "late NUL": "a: 1\n" * 900_000 + "\0",
    "late tab": "a: 1\n" * 10_000 + "\tb: 1",
    "late syntax error": CHAT + "x: [" + "1," * 9_000 + "\n  :a: ]]",
}
_SIZE = {
    "one long list": "[" + "1," * 2_400_000 + "]",
    "list within the limit": CHAT + "extra: [" + "1," * 19_000 + "]",
    "many keys": "".join(f"a{i}: 1\n" for i in range(300_000)),
    "keys within the limit": CHAT + "".join(f"max_num_batched_tokens_and_more_{i}: 1\n" for i in range(990)),
    "long text": "a" * _MOST,
    "long key": CHAT + "a" * 900 + ": 1\n" + "? " + "b" * _MOST + "\n: 1\n",
    "long block of text": "name: |\n" + "  x\n" * 1_200_000,
    "folded text": "name: >\n" + "  x\n\n" * 900_000,
    "emoji": "name: " + "\U0001f600" * 1_200_000,
    "long kind": _chat("least_outstanding", "a" * _MOST),
    "long model": _chat("llama-3.1-8b", "a" * _MOST),
    "long GPU": _chat("gpu: h100", "gpu: " + "h100" * 1_000_000),
    "long path": _chat("kind: roofline", "kind: calibrated, file: " + "a/" * 2_400_000),
    "long escapes": _chat("name: chat", 'name: "' + "\\0" * 2_000_000 + '"'),
    "many digits": _chat("100\n", "9" * _MOST + "\n"),
    "many decimals": _chat("4.0", "4." + "9" * _MOST),
    "many huge integers": "a: [" + _many(12_000, "9" * 390) + "]",
    "almost a number": _chat("4.0", "4" * _MOST + "x"),
    "almost a duration": _chat("4.0", "1." * 2_400_000 + "s"),
}
_ALIASES = {
    "many anchors": "&a " * 1_600_000,
    "anchors of their own": "[" + _many(49_000, "&a# x") + "]",
    "one alias often": "a: &a x\nb: [" + "*a," * 1_600_000 + "]",
    "undefined aliases": "[" + "*a," * 49_000 + "]",
    "billion laughs": "a: &a [x]\n" + "".join(f"b{i}: &b{i} [{', '.join(['*a'] * 200)}]\n" for i in range(2000)),
    "doubling": "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40)),
    "laughing keys": "a: &a {b: &b {c: 1}}\n" + "".join(f"x{i}: [*a, *b]\n" for i in range(20_000)),
    "merge keys": "{" + "<<: 1," * 500_000 + "}",
    "one bad class often": _chat("pools:", "    c: &c {arrivals: [1]}\n" + "".join(
        f"    c{i}: *c\n" for i in range(900)) + "pools:"),
}  # fmt: skip
_FAULTS = {
    "one key often": "a: 1\n" * 900_000,
    "null keys": "{" + "~: 1," * 9_000 + "}",
    "list keys": "\n".join("? [a]\n: 1" for _ in range(9_000)),
    "unknown keys in classes": _classes(400, "{" + _many(20, "prompt_token#: 1").replace("#", "") + "}"),
    "unknown keys in engines": _pools(400, "{engine: {" + _many(20, "max_num_batched_tok#: 1") + "}}"),
    "unknown keys in routers": _pools(400, "{router: {kind: power_of_d, " + _many(20, "replica#: 1") + "}}"),
    "unknown kinds": _classes(900, "{arrivals: foo}"),
    "unknown long kinds": _classes(900, "{arrivals: " + "poisson" * 11 + "}"),
    "unknown GPUs": _pools(900, "{gpu: gpu#}"),
    "texts for classes": _classes(990, "poison"),
    "long names of pools": CHAT + "".join(f"  '{'p ' * 200}{i}': 1\n" for i in range(990)),
    "wrong points": _chat("512", "{kind: quantiles, cdf: [" + "[9, x]," * 6_000 + "]}"),
    "wrong rows": _chat("prompt_tokens: 512", "lengths: {kind: empirical, rows: [" + "[a, b]," * 6_000 + "]}"),
    "long rows": _chat("prompt_tokens: 512", "lengths: {kind: empirical, rows: [" + f"[{'1,' * 40}]," * 400 + "]}"),
    "files that are not there": _classes(900, "{arrivals: {kind: azure_trace, path: f#.csv}}"),
    "files that lie deep": _classes(900, "{arrivals: {kind: azure_trace, path: " + "a/" * 480 + "#.csv}}"),
    "files that lie outside": _classes(900, "{arrivals: {kind: azure_trace, path: " + "../" * 300 + "#.csv}}"),
}
HOSTILE = {**_SYNTAX, **_SIZE, **_ALIASES, **_FAULTS}
