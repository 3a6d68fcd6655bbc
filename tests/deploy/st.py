"""Runs the subset of IEC 61131-3 Structured Text that deploy/plc is written in, so that the text itself is tested.

Assignments, IF/ELSIF/ELSE, NOT, AND, OR, MOD, comparisons, + - *, BOOL, UINT, UDINT; anything else is an error.
`wide`: intermediate results keep all their bits, as on a 64-bit controller; else each operation wraps at 32 bits.
Storing into a UDINT or UINT always wraps. A block that is right on both does not depend on the controller.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

Value = int | bool
Statement = Callable[["Block"], None]
Expression = Callable[["Block"], Value]

TOKEN = re.compile(r"\s*(?:(16#[0-9A-Fa-f]+|\d+)|([A-Za-z_]\w*)|(:=|<>|<=|>=|[-+*()=<>;:]))")
BITS = {"BOOL": 1, "UINT": 16, "UDINT": 32}
COMPARE: dict[str, Callable[[Value, Value], bool]] = {
    "=": lambda a, b: a == b,
    "<>": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
}


class Block:
    """One instance of a function block: `block(xStart=True)` is one call; outputs are read as attributes."""

    def __init__(self, types: dict[str, str], initial: dict[str, Value], body: list[Statement], *, wide: bool) -> None:
        self.types, self.values, self.body, self.wide = types, dict(initial), body, wide

    def __call__(self, **inputs: Value) -> None:
        for name, value in inputs.items():
            self.store(name, value)
        for statement in self.body:
            statement(self)

    def store(self, name: str, value: Value) -> None:
        kind = self.types[name]
        if (kind == "BOOL") != isinstance(value, bool):
            raise TypeError(f"{name} is {kind}, got {value!r}")
        self.values[name] = value if isinstance(value, bool) else value % 2 ** BITS[kind]

    def arithmetic(self, value: Value) -> Value:
        return value if self.wide else value % 2**32

    def __getattr__(self, name: str) -> Value:
        try:
            return self.values[name]
        except KeyError:
            raise AttributeError(name) from None


def load(path: Path, name: str, *, wide: bool) -> Block:
    text = re.sub(r"\(\*.*?\*\)", " ", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    found = re.search(rf"FUNCTION_BLOCK {name}\b(.*?)END_FUNCTION_BLOCK", text, re.DOTALL)
    assert found, f"{path} has no block {name}"
    declared, _, body = found[1].rpartition("END_VAR")
    types: dict[str, str] = {}
    initial: dict[str, Value] = {}
    for var, kind, value in re.findall(r"(\w+)\s*:\s*(BOOL|UINT|UDINT)\s*(?::=\s*(\w+)\s*)?;", declared):
        types[var] = kind
        initial[var] = value == "TRUE" if kind == "BOOL" else int(value or 0)
    leftover = re.sub(r"\w+\s*:\s*(BOOL|UINT|UDINT)\s*(:=\s*\w+\s*)?;|VAR_INPUT|VAR_OUTPUT|END_VAR|VAR", "", declared)
    assert not leftover.strip(), f"not understood: {leftover.strip()[:80]}"
    return Block(types, initial, Parser(body, types).statements(()), wide=wide)


class Parser:
    """Recursive descent, with the precedence of IEC 61131-3: NOT, * MOD, + -, comparison, AND, OR."""

    def __init__(self, text: str, names: dict[str, str]) -> None:
        self.names = names
        self.tokens: list[str] = []
        at = 0
        while text[at:].strip():
            found = TOKEN.match(text, at)
            assert found, f"not understood: {text[at : at + 40]!r}"
            self.tokens.append(found[0].strip())
            at = found.end()
        self.at = 0

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self, wanted: str = "") -> str:
        token = self.peek()
        told = f"wanted {wanted!r}, found {token!r} after {self.tokens[: self.at][-8:]}"
        assert token, told
        assert wanted in ("", token), told
        self.at += 1
        return token

    def statements(self, ends: tuple[str, ...]) -> list[Statement]:
        done: list[Statement] = []
        while self.peek() and self.peek() not in ends:
            done.append(self.choice() if self.peek() == "IF" else self.assignment())
        return done

    def assignment(self) -> Statement:
        name = self.take()
        assert name in self.names, f"{name} is not declared"
        self.take(":=")
        value = self.expression()
        self.take(";")
        return lambda block: block.store(name, value(block))

    def choice(self) -> Statement:
        branches: list[tuple[Expression, list[Statement]]] = []
        while self.peek() in ("IF", "ELSIF"):
            self.take()
            condition = self.expression()
            self.take("THEN")
            branches.append((condition, self.statements(("ELSIF", "ELSE", "END_IF"))))
        otherwise: list[Statement] = []
        if self.peek() == "ELSE":
            self.take()
            otherwise = self.statements(("END_IF",))
        self.take("END_IF")
        if self.peek() == ";":
            self.take()

        def run(block: Block) -> None:
            chosen = next((body for condition, body in branches if truth(condition(block))), otherwise)
            for statement in chosen:
                statement(block)

        return run

    def expression(self) -> Expression:
        left = self.conjunction()
        while self.peek() == "OR":
            self.take()
            left = either(left, self.conjunction())
        return left

    def conjunction(self) -> Expression:
        left = self.comparison()
        while self.peek() == "AND":
            self.take()
            left = both(left, self.comparison())
        return left

    def comparison(self) -> Expression:
        left = self.sum()
        if self.peek() not in COMPARE:
            return left
        how = COMPARE[self.take()]
        right = self.sum()
        return lambda block: how(left(block), right(block))

    def sum(self) -> Expression:
        left = self.product()
        while self.peek() in ("+", "-"):
            left = arithmetic(self.take(), left, self.product())
        return left

    def product(self) -> Expression:
        left = self.unary()
        while self.peek() in ("*", "MOD"):
            left = arithmetic(self.take(), left, self.unary())
        return left

    def unary(self) -> Expression:
        token = self.take()
        if token == "NOT":
            inner = self.unary()
            return lambda block: not truth(inner(block))
        if token == "(":
            inner = self.expression()
            self.take(")")
            return inner
        if token in ("TRUE", "FALSE"):
            return lambda _block: token == "TRUE"
        if token[0].isdigit():
            number = int(token[3:], 16) if token.startswith("16#") else int(token)
            return lambda _block: number
        assert token in self.names, f"{token} is not declared"
        return lambda block: block.values[token]


def truth(value: Value) -> bool:
    assert isinstance(value, bool), f"a condition is BOOL, not {value!r}"
    return value


def either(a: Expression, b: Expression) -> Expression:
    # Both sides are evaluated, as AND and OR do in Structured Text.
    return lambda block: truth(a(block)) | truth(b(block))


def both(a: Expression, b: Expression) -> Expression:
    return lambda block: truth(a(block)) & truth(b(block))


def arithmetic(how: str, a: Expression, b: Expression) -> Expression:
    def work(block: Block) -> Value:
        left, right = a(block), b(block)
        assert not isinstance(left, bool), "no arithmetic on BOOL"
        assert not isinstance(right, bool), "no arithmetic on BOOL"
        result = {"+": left + right, "-": left - right, "*": left * right}.get(how)
        return block.arithmetic(left % right if result is None else result)

    return work
