"""A rule between knobs: a comparison such as `min_idle <= pool_size` or `2 < heap_gb / workers <= 8`.

Names of knobs (a dot may be part of one), numbers, + - * / **, parentheses, and the functions of FUNCTIONS, compared by
<, <=, > or >=. It is read as a tree and never executed as Python. Public: Rule, parse.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

FUNCTIONS: dict[str, Callable[..., float]] = {
    "min": min,
    "max": max,
    "abs": abs,
    "sqrt": math.sqrt,
    "log": math.log,
    "exp": math.exp,
}
OPERATIONS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: math.pow,
}
COMPARISONS: dict[type[ast.cmpop], Callable[[float, float], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


@dataclass(frozen=True, slots=True)
class Rule:
    """`name` as in the config; `knobs`: those it speaks of."""

    name: str
    text: str
    knobs: tuple[str, ...]
    tree: ast.Compare = field(compare=False, repr=False)

    def holds(self, given: Mapping[str, Any]) -> bool:
        """Whether native values keep it; where it has no value (a division by zero, log of -1) they do not."""
        try:
            terms = [_value(node, given) for node in (self.tree.left, *self.tree.comparators)]
        except (ArithmeticError, ValueError):
            return False
        pairs = zip(self.tree.ops, terms, terms[1:], strict=False)
        return all(COMPARISONS[type(op)](a, b) for op, a, b in pairs)


def parse(name: str, text: str) -> Rule:
    """The rule of a text; ValueError says what of it is not understood."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{text!r:.80} is no expression") from error
    if not isinstance(tree, ast.Compare) or not all(type(op) in COMPARISONS for op in tree.ops):
        raise ValueError(f'{text!r:.80} is no comparison by <, <=, > or >=; write e.g. "min_idle <= pool_size"')
    names = dict.fromkeys(found for node in (tree.left, *tree.comparators) for found in _names(node))
    if not names:
        raise ValueError(f"{text!r:.80} speaks of no knob")
    return Rule(name, text, tuple(names), tree)


def _names(node: ast.expr) -> list[str]:
    """The knobs that an expression speaks of, in order."""
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return []
        case ast.Name() | ast.Attribute() if name := _dotted(node):
            return [name]
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            return _names(operand)
        case ast.BinOp(left, op, right) if type(op) in OPERATIONS:
            return _names(left) + _names(right)
        case ast.Call(func=ast.Name(id=function), args=args, keywords=[]) if function in FUNCTIONS and args:
            if function in ("min", "max") or len(args) == 1:
                return [name for arg in args for name in _names(arg)]
    allowed = f"numbers, knobs, + - * / **, parentheses and {', '.join(FUNCTIONS)}"
    raise ValueError(f"{ast.unparse(node)!r:.80} is not understood; there are {allowed}")


def _dotted(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=name) if owner := _dotted(value):
            return f"{owner}.{name}"
    return ""


def _value(node: ast.expr, given: Mapping[str, Any]) -> float:
    match node:
        case ast.Constant(value=int() | float() as value):
            return float(value)
        case ast.UnaryOp(op=op, operand=operand):
            value = _value(operand, given)
            return -value if isinstance(op, ast.USub) else value
        case ast.BinOp(left, op, right):
            return OPERATIONS[type(op)](_value(left, given), _value(right, given))
        case ast.Call(func=ast.Name(id=function), args=args):
            terms = [_value(arg, given) for arg in args]
            return FUNCTIONS[function](*terms) if len(terms) > 1 or function not in ("min", "max") else terms[0]
    return float(given[_dotted(node)])
