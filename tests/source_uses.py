"""What our source takes from the libraries that change under us, read from its syntax trees and held against what is installed.

Comes in: Python source.  Goes out: uses (file:line, what), and of each that no longer exists one sentence: the line of ours to mend.
Seen: imports; attributes and calls of what was imported, of its instances (`x = Name(...)`, annotated arguments, `self` and `super()` of
a subclass and of its mixins) with positional and keyword arguments, `**` of dicts that are written out; overridden methods.
Not seen: what reaches us through containers or untyped arguments. `tests/test_drift.py` names those by hand.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

PACKAGES = (
    "trl", "transformers", "peft", "accelerate", "huggingface_hub", "bitsandbytes", "safetensors", "datasets", "tokenizers", "gguf", "openai",
)  # fmt: skip

ATTRIBUTES = {
    "accelerator": "accelerate.Accelerator", "args": "trl.GRPOConfig", "state": "transformers.TrainerState",
    "control": "transformers.TrainerControl", "generation_config": "transformers.GenerationConfig",
}  # fmt: skip
"""Types of attributes that the trainer and models carry."""

TAKEN_ELSEWHERE = {
    "from_pretrained": (
        "transformers.modeling_utils",
        "transformers.models.auto.auto_factory",
        "transformers.tokenization_utils_base",
    ),
    "Qwen2Config": ("transformers.configuration_utils",),
    "LlamaConfig": ("transformers.configuration_utils",),
    "from_config": ("transformers.models.auto.auto_factory", "transformers.modeling_utils"),
    "for_model": (
        "transformers.models.qwen2.configuration_qwen2",
        "transformers.models.qwen3.configuration_qwen3",
        "transformers.configuration_utils",
    ),
    "TokenizersBackend": ("transformers.tokenization_utils_base",),
    "PartialState": ("torch.distributed.distributed_c10d",),
    "WandBTracker": ("wandb.sdk.wandb_init",),
    "TrackioTracker": ("trackio",),
}
"""Modules that read what these callables pass on as ``**kwargs``; where one is not installed, such keywords are not judged."""

STAND_INS = {"PreTrainedTokenizerBase": "transformers.PreTrainedTokenizerFast"}
"""Abstract annotations, and what really comes."""


@dataclass(frozen=True)
class Instance:
    """Something of this class, as opposed to the class itself. `ours`: names our own subclass adds."""

    of: type
    ours: frozenset[str] = frozenset()


@dataclass
class Report:
    """`uses`: (line, what was asked for). `problems`: sentences that name the line."""

    uses: list[tuple[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def examine(source: str, name: str, family: dict[str, Instance] | None = None) -> Report:
    """Hold one file against the installed libraries. `family`: our subclasses by name (see `family_of`)."""
    walk = _Walk(name, family or {})
    walk.visit(ast.parse(source))
    return walk.report


def family_of(sources: dict[str, str]) -> dict[str, Instance]:
    """Our classes that inherit from a library's trainer, and their mixins, each as an instance of that base."""
    classes = {
        node.name: node
        for text in sources.values()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ClassDef)
    }
    found = {}
    for node in classes.values():
        bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
        if "GRPOTrainer" in bases:
            members = [node.name, *(base for base in bases if base in classes)]
            own = frozenset(name for member in members for name in _members(classes[member]))
            found |= dict.fromkeys(members, Instance(load("trl.GRPOTrainer"), own))
    return found


class _Walk(ast.NodeVisitor):
    """One file. Names are looked up innermost scope first; a scope is a function."""

    def __init__(self, name: str, family: dict[str, Instance]) -> None:
        self.name, self.family, self.report = name, family, Report()
        self.scopes: list[dict[str, Any]] = [{}]
        self.dicts: list[dict[str, list[ast.expr]]] = [{}]
        self.functions: dict[str, ast.FunctionDef] = {}
        self.owner: Instance | None = None

    def visit_Module(self, node: ast.Module) -> None:
        self.functions = {each.name: each for each in ast.walk(node) if isinstance(each, ast.FunctionDef)}
        self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            if alias.name.split(".")[0] in PACKAGES and self._exists(
                node, alias.name, lambda path=alias.name: importlib.import_module(path)
            ):
                self.scopes[-1][alias.asname or alias.name.split(".")[0]] = load(
                    alias.name if alias.asname else alias.name.split(".")[0]
                )

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.level or (node.module or "").split(".")[0] not in PACKAGES:
            return
        for alias in node.names:
            path = f"{node.module}.{alias.name}"
            if self._exists(node, path, lambda path=path: load(path)):
                self.scopes[-1][alias.asname or alias.name] = load(path)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        before, self.owner = self.owner, self.family.get(node.name)
        bases = [found for base in node.bases if inspect.isclass(found := self._value(base))]
        if self.owner is None and bases:
            self.owner = Instance(bases[0], frozenset(_members(node)))
        if self.owner is not None:
            for method in node.body:
                if (
                    isinstance(method, ast.FunctionDef)
                    and not method.name.startswith("__")
                    and hasattr(self.owner.of, method.name)
                ):
                    self._override(method, getattr(self.owner.of, method.name))
        self.generic_visit(node)
        self.owner = before

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.scopes.append({})
        self.dicts.append({})
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        for argument in arguments:
            kind = self._annotation(argument.annotation)
            self.scopes[-1][argument.arg] = self.owner if argument.arg == "self" and self.owner else kind
        self.generic_visit(node)
        self.scopes.pop()
        self.dicts.pop()

    def visit_Assign(self, node: ast.Assign) -> None:
        self.generic_visit(node)
        for target in node.targets:
            if isinstance(target, ast.Name):
                self.dicts[-1].setdefault(target.id, []).append(node.value)
                self.scopes[-1][target.id] = self._value(node.value)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.generic_visit(node)
        owner = self._value(node.value)
        if (
            owner is None
            or not isinstance(node.ctx, ast.Load)
            or (isinstance(owner, Instance) and node.attr in owner.ours)
        ):
            return
        what = f"{_name(owner)}.{node.attr}"
        self.report.uses.append((f"{self.name}:{node.lineno}", what))
        if not _has(owner, node.attr):
            self.report.problems.append(f"{self.name}:{node.lineno}: {what} is no more; mend this line")

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        function = self._value(node.func)
        if function is None or isinstance(function, Instance) or not callable(function):
            return
        owner = self._value(node.func.value) if isinstance(node.func, ast.Attribute) else None
        bound = isinstance(owner, Instance) and inspect.isfunction(
            inspect.getattr_static(owner.of, node.func.attr, None)
        )
        keywords = [word.arg for word in node.keywords if word.arg] + [
            key for word in node.keywords if not word.arg for key in self._keys(word.value)
        ]
        open_end = any(isinstance(each, ast.Starred) for each in node.args) or any(
            word.arg is None for word in node.keywords
        )
        for trouble in _misfits(function, bound + len(node.args), keywords, open_end):
            self.report.problems.append(f"{self.name}:{node.lineno}: {_name(function)} {trouble}; mend this line")
        self.report.uses += [(f"{self.name}:{node.lineno}", f"{_name(function)}({word}=)") for word in keywords]

    def _exists(self, node: ast.stmt, path: str, load: Any) -> bool:
        self.report.uses.append((f"{self.name}:{node.lineno}", path))
        try:
            load()
        except (ImportError, AttributeError) as error:
            self.report.problems.append(
                f"{self.name}:{node.lineno}: {path} cannot be imported ({error}); mend this line"
            )
            return False
        return True

    def _override(self, method: ast.FunctionDef, theirs: Any) -> None:
        """Theirs must still be called with what ours takes: the same names in the same order, unless ours takes anything."""
        self.report.uses.append((f"{self.name}:{method.lineno}", f"override of {_name(theirs)}"))
        if not inspect.isfunction(theirs) or (method.args.vararg and method.args.kwarg):
            return
        ours = [re.sub(r"_[A-Z]+$", "", each.arg) for each in method.args.args]
        wanted = [name for name, p in inspect.signature(theirs).parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
        rest = wanted[len(ours) :] if method.args.kwarg is None else []
        if ours[: len(wanted)] != wanted[: len(ours)] or rest:
            self.report.problems.append(
                f"{self.name}:{method.lineno}: {_name(theirs)} takes ({', '.join(wanted)}) now, ours ({', '.join(ours)}); mend this line"
            )

    def _annotation(self, node: ast.expr | None) -> Instance | None:
        if isinstance(node, ast.Name) and node.id in self.family:
            return self.family[node.id]
        found = self._value(node) if isinstance(node, ast.Name | ast.Attribute) else None
        return Instance(found) if inspect.isclass(found) else None

    def _value(self, node: ast.expr) -> Any:
        """The library's object that an expression means, an `Instance`, or None where that cannot be told."""
        if isinstance(node, ast.Name):
            return next((scope[node.id] for scope in reversed(self.scopes) if node.id in scope), None)
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id == "super":
                return Instance(self.owner.of) if self.owner else None
            made = self._value(node.func)
            if inspect.isclass(made):
                return Instance(made)
            loaded = getattr(made, "__self__", None) if getattr(made, "__name__", "") == "from_pretrained" else None
            return Instance(loaded) if inspect.isclass(loaded) and not loaded.__name__.startswith("Auto") else None
        if isinstance(node, ast.Attribute):
            owner = self._value(node.value)
            if owner is None:
                return None
            if isinstance(owner, Instance):
                if node.attr in owner.ours:
                    return None
                if node.attr in ATTRIBUTES and not hasattr(owner.of, node.attr):
                    return Instance(load(ATTRIBUTES[node.attr]))
                member = inspect.getattr_static(owner.of, node.attr, None)
                return (
                    getattr(owner.of, node.attr)
                    if inspect.isfunction(member) or isinstance(member, classmethod | staticmethod)
                    else None
                )
            return getattr(owner, node.attr, None)
        return None

    def _keys(self, node: ast.expr) -> Iterator[str]:
        """Keys of a dict that is written out here, in a variable of this function, or in a function of this file."""
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if key is None:
                    yield from self._keys(value)
                elif isinstance(key, ast.Constant):
                    yield str(key.value)
        elif isinstance(node, ast.IfExp):
            yield from (*self._keys(node.body), *self._keys(node.orelse))
        elif isinstance(node, ast.Name):
            for value in self.dicts[-1].get(node.id, ()):
                yield from self._keys(value) if not isinstance(value, ast.Name) else ()
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in self.functions:
            for each in ast.walk(self.functions[node.func.id]):
                if isinstance(each, ast.Return) and isinstance(each.value, ast.Dict):
                    yield from self._keys(each.value)


def _misfits(function: Any, positional: int, keywords: list[str], open_end: bool) -> Iterator[str]:
    """What of a call the installed function would not take."""
    if not _source(function):
        return  # compiled: its signature, where it has one, is not the truth
    signature = inspect.signature(function)
    parameters = signature.parameters.values()
    swallows = any(p.kind is p.VAR_KEYWORD for p in parameters)
    unknown = [
        word
        for word in keywords
        if word not in signature.parameters or signature.parameters[word].kind is inspect.Parameter.VAR_KEYWORD
    ]
    for word in unknown:
        if not swallows or not re.search(rf"\b{word}\b", _text_around(function, word)):
            yield f"takes no {word!r} any more"
    if unknown and not swallows:
        return
    if all(p.kind is p.VAR_KEYWORD for p in parameters):
        return  # transformers' Auto classes hide their positional arguments from `inspect`
    try:
        bind = signature.bind_partial if open_end else signature.bind
        bind(*[None] * positional, **dict.fromkeys(keywords))
    except TypeError as error:
        yield f"cannot be called like this any more ({error})"


def _has(owner: Any, attribute: str) -> bool:
    if not isinstance(owner, Instance):
        return hasattr(owner, attribute)
    if hasattr(owner.of, attribute) or attribute in getattr(owner.of, "__dataclass_fields__", {}):
        return True
    if owner.of.__name__ in STAND_INS:
        return _has(Instance(load(STAND_INS[owner.of.__name__])), attribute)
    stem = attribute.removesuffix("_id")  # special tokens' ids are made of their names
    return any(attribute in _set_in(base) or f'"{stem}"' in _source(base) for base in owner.of.__mro__)


@functools.cache
def _set_in(kind: type) -> frozenset[str]:
    """Attributes that a class's methods give to `self`."""
    return frozenset(re.findall(r"\bself\.(\w+)(?:: [^=\n]+)? = ", _source(kind))) | frozenset(
        getattr(kind, "__annotations__", {})
    )


@functools.cache
def _source(thing: Any) -> str:
    try:
        return inspect.getsource(thing)
    except (OSError, TypeError):
        return ""


def _text_around(function: Any, word: str) -> str:
    """Where a callable that takes ``**kwargs`` may read this one: its module, its bases' modules, and `TAKEN_ELSEWHERE`."""
    bases = function.__mro__ if inspect.isclass(function) else (function,)
    text = "".join(_source(importlib.import_module(base.__module__)) for base in bases if base.__module__ != "builtins")
    for module in TAKEN_ELSEWHERE.get(function.__name__, ()):
        if importlib.util.find_spec(module.split(".")[0]) is None:
            return word
        text += _source(importlib.import_module(module))
    return text


def _members(node: ast.ClassDef) -> Iterator[str]:
    """What a class of ours defines, or gives to `self`."""
    for each in ast.walk(node):
        if isinstance(each, ast.FunctionDef):
            yield each.name
        elif (
            isinstance(each, ast.Attribute)
            and isinstance(each.ctx, ast.Store)
            and isinstance(each.value, ast.Name)
            and each.value.id == "self"
        ):
            yield each.attr
        elif isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
            yield each.target.id


def load(path: str) -> Any:
    """The module, or the name in a module, of this dotted path."""
    module, _, name = path.rpartition(".")
    try:
        return importlib.import_module(path)
    except ImportError:
        if not module:
            raise
        return getattr(importlib.import_module(module), name)


def _name(thing: Any) -> str:
    if isinstance(thing, Instance):
        return thing.of.__name__
    return getattr(thing, "__qualname__", getattr(thing, "__name__", str(thing)))
