"""Runs in the child: can a program see an order, a hash, an address or a random number? If not, it is `plain`.

Two worlds are enough for a plain program; the others run in all of them. Doubt only costs time, so the rules are wide:
a set that is not merely asked for members or length, a view of a dict under a set's operator, names that give hashes or
addresses, names hidden in text, and text made of anything while a function, an iterator or an object is about.
"""

from __future__ import annotations

import ast
import re
from typing import Final

_SETS: Final = {"set", "frozenset"}
_VIEWS: Final = {"keys", "items"}
_NEVER: Final = set(
    "hash id object vars globals locals getattr eval exec compile dir memoryview operator attrgetter methodcaller "
    "buffer_info get_origin KeysView ItemsView Formatter".split()
)
_DUNDERS: Final = {"__init__", "__name__"}
_TEXT_MAKERS: Final = set("str repr ascii format format_map args substitute safe_substitute".split())
_ITERATORS: Final = set("map filter zip enumerate reversed iter finditer super property".split())
_NO_THINGS: Final = {"math", "cmath", "bisect", "fractions", "decimal", "typing"}
"""Modules that have no function or class that shows its address."""
_EATERS: Final = set("list tuple dict sorted sum min max any all len join enumerate zip map filter set Counter".split())
"""Calls that use an iterator up and keep nothing of a view."""
_HIDDEN: Final = re.compile(r"__|\{\w*\.")
_PERCENT: Final = re.compile(r"%.*[sra]", re.DOTALL)


def is_plain(tree: ast.Module) -> bool:
    """Whether nothing in this program can see order, hash, identity or randomness."""
    above = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    functions = {node.name for node in above if isinstance(node, ast.FunctionDef)}
    functions |= {a.asname or a.name for node in above if isinstance(node, ast.ImportFrom) for a in node.names}
    makes_text = has_things = False
    for node, parent in above.items():
        called = isinstance(parent, ast.Call) and parent.func is node
        value, user = (parent, above.get(parent)) if called else (node, parent)
        name = _name(node)
        if name in _NEVER or (name.startswith("__") and name not in _DUNDERS):
            return False
        if name in _EATERS and (not isinstance(node, ast.Name | ast.Attribute | ast.keyword) or _stored(node)):
            return False  # another one of that name
        if name == "type" and called and len(parent.args) > 1:
            return False
        if isinstance(node, ast.Set | ast.SetComp) or name in _SETS:
            if not _only_asked(value, user):
                return False
        elif isinstance(node, ast.Attribute):
            if name in _VIEWS and not (called and (_only_asked(value, user) or _used_up(value, user))):
                return False
            if name in _VIEWS and _name(getattr(user, "func", user)) in ("max", "min") and len(user.args) > 1:
                return False  # one of the views comes back
            if name.startswith("_"):
                return False  # of a module, such as a set
            has_things = has_things or not called
        elif isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
            if _HIDDEN.search(str(node.value)):
                return False
            makes_text = makes_text or _PERCENT.search(str(node.value)) is not None
        elif isinstance(node, ast.Lambda | ast.GeneratorExp) or (called and name in _ITERATORS):
            has_things = has_things or not _used_up(value, user)
        elif isinstance(node, ast.Name):
            has_things = has_things or (name in functions and not called)
        elif isinstance(node, ast.ClassDef | ast.Yield | ast.YieldFrom):
            has_things = True
        elif isinstance(node, ast.Import | ast.ImportFrom):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            has_things = has_things or not _NO_THINGS.issuperset(modules)
        makes_text = makes_text or name in _TEXT_MAKERS or isinstance(node, ast.FormattedValue)
    return not (makes_text and has_things)


def _name(node: ast.AST) -> str:
    for field in ("id", "attr", "name", "module", "arg"):
        if type(name := getattr(node, field, None)) is str:
            return name
    return ""


def _stored(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)


def _only_asked(value: ast.AST, user: ast.AST | None) -> bool:
    """`x in {…}` and `len({…})`."""
    if isinstance(user, ast.Compare):
        return value is user.comparators[-1] and isinstance(user.ops[-1], ast.In | ast.NotIn)
    return isinstance(user, ast.Call) and _name(user.func) == "len"


def _used_up(value: ast.AST, user: ast.AST | None) -> bool:
    if isinstance(user, ast.For | ast.comprehension):
        return user.iter is value
    if isinstance(user, ast.keyword):
        return user.arg == "key"
    return isinstance(user, ast.Call) and value is not user.func and _name(user.func) in _EATERS
