"""Python source taken apart: definitions, what they reach, what they import; and the user's own code for a script."""

from __future__ import annotations

import ast
import dis
import inspect
import symtable
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sheer.errors import EjectError
from sheer.model.rebuild import OWN, own_branches
from sheer.plan.plan import Plan
from sheer.record.own import branch_module, own_module, own_parts
from sheer.record.run import Module, Record
from sheer.task import metrics

ALLOWED = ("torch", "torchvision", "timm", "transformers", "tokenizers", "numpy", "PIL", "safetensors")


@dataclass(frozen=True, kw_only=True)
class Definition:
    """One top-level definition: its text, the names it uses, and its file's import lines by the name they bind."""

    name: str
    text: str
    uses: frozenset[str]
    imports: dict[str, str]


def definitions(source: str) -> list[Definition]:
    """The top-level functions, classes and assignments of a module's source, in order."""
    tree, lines = ast.parse(source), source.splitlines(keepends=True)
    imports = definitions_imports(tree)
    found = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            names = [node.name]
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            first = node.lineno
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
        else:
            continue
        text = "".join(lines[first - 1 : node.end_lineno])
        uses = names_read(node)
        found += [Definition(name=name, text=text, uses=uses, imports=imports) for name in names]
    return found


def definitions_imports(tree: ast.Module) -> dict[str, str]:
    """The import lines of a module's top level by the name that they bind."""
    imports: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                text = f"import {alias.name}" + (f" as {alias.asname}" if alias.asname else "")
                imports[alias.asname or alias.name.partition(".")[0]] = text
        elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
            for alias in node.names:
                text = f"from {node.module} import {alias.name}" + (f" as {alias.asname}" if alias.asname else "")
                imports[alias.asname or alias.name] = text
    return imports


def reached(everything: Iterable[Definition], wanted: Iterable[str]) -> list[Definition]:
    """The definitions that `wanted` names reach, directly or through others, in the order given."""
    listed = list(everything)
    by_name = {definition.name: definition for definition in listed}
    todo, done = list(wanted), set[str]()
    while todo:
        name = todo.pop()
        if name in by_name and name not in done:
            done.add(name)
            todo += by_name[name].uses
    twice = sorted({item.name for item in listed if item.name in done and by_name[item.name] is not item})
    if twice:
        raise EjectError(f"Two definitions are called {', '.join(twice)}; in one file each name can mean one thing only: rename yours.")
    return [definition for name, definition in by_name.items() if name in done]


def elsewhere(source: str) -> frozenset[str]:
    """Names that a module gives their last value at its top level by statements which are not taken apart: `a, b = ...`, inside if, for."""
    tree, found = ast.parse(source), set[str]()
    defined, imported = {item.name for item in definitions(source)}, set(definitions_imports(tree))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom):
            continue
        code = compile(ast.Module([node], []), "", "exec", dont_inherit=True)
        bound = {str(step.argval) for step in dis.get_instructions(code) if step.opname in ("STORE_NAME", "STORE_GLOBAL")}
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        found |= bound - {target.id for target in targets if isinstance(target, ast.Name)} - imported
        parts = [one for one in targets if isinstance(one, ast.Attribute | ast.Subscript)]
        if isinstance(node, ast.Expr | ast.For | ast.While | ast.If | ast.With | ast.AugAssign):
            parts += [one for one in ast.walk(node) if isinstance(one, ast.Attribute)]
        found |= {one.value.id for one in parts if isinstance(one.value, ast.Name)} & names_read(node) & defined
    return frozenset(found)


def import_block(used: Iterable[Definition]) -> str:
    """The import lines that the definitions need: standard library first, names of one module on one line."""
    plain: set[str] = set()
    named: dict[str, set[str]] = {}
    for definition in used:
        for name in definition.uses & set(definition.imports):
            line = definition.imports[name]
            if line.startswith("from "):
                module, _, imported = line.removeprefix("from ").partition(" import ")
                if not module.startswith("sheer"):
                    named.setdefault(module, set()).add(imported)
            elif not line.startswith("import sheer"):
                plain.add(line)
    lines = [*sorted(plain), *(f"from {module} import {', '.join(sorted(names))}" for module, names in sorted(named.items()))]
    standard = [line for line in lines if line.split()[1].partition(".")[0] in sys.stdlib_module_names]
    other = [line for line in lines if line not in standard]
    return "\n".join([*standard, "", *other])


def names_read(tree: ast.AST) -> frozenset[str]:
    """The names that a piece of source reads from the module around it; those that its own scopes bind do not count.

    >>> sorted(names_read(ast.parse("def area(side, of=SIDE): return [side * one for one in of if one > LEAST]")))
    ['LEAST', 'SIDE']
    """
    within = "def piece():\n" + textwrap.indent(ast.unparse(tree), " ")  # so that what it binds itself is local
    found, tables = set[str](), symtable.symtable(within, "", "exec").get_children()
    while tables:
        table = tables.pop()
        found |= {symbol.get_name() for symbol in table.get_symbols() if symbol.is_global()}
        tables += table.get_children()
    for line in (line for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for line in node.body):
        if isinstance(line, ast.Assign | ast.AnnAssign) and line.value:  # `size = size` in a class body reads the one around it
            found |= names_read(line.value) - names_read(line)
    return frozenset(found)


def own_definitions(plan: Plan, record: Record | None, objects: Mapping[str, Callable[..., Any]]) -> list[Definition]:
    """The user's own module, head and metrics, functions or classes, with what they reach in their files, each once.

    Raises:
        EjectError: one was not given, is not what the run used, imports what a script may not, or is no top-level definition.
    """
    wanted = [name for name in plan.metrics if name not in metrics.METRICS[plan.data.task.name]]
    if plan.model.head is not None and plan.model.head.name.startswith("function:"):
        wanted.append(plan.model.head.name.partition(":")[2])
        _check_unchanged(wanted[-1], objects, record.own_head if record else None)
    own = own_branches(plan.model)
    modules = [(plan.model.name, record.own_module if record else None)]
    for model_name, used in [*modules, *((one.model.name, branch_module(one)) for one in plan.model.branches if one.name in own)]:
        kind, _, name = model_name.partition(":")
        if kind == "module":
            raise EjectError(
                f"The run used an instance of {name}; how it was made is not known. Pass sheer.learner a function that makes it."
            )
        if kind in OWN:
            wanted.append(name)
            _check_unchanged(name, objects, used)
    for options in (part.options() for part in own_parts(plan)):
        wanted.append(str(options["function"]))
        _check_unchanged(wanted[-1], objects, Module(name=wanted[-1], source_sha256=str(options["source_sha256"])))
    found = [definition for name in wanted for definition in _copied(name, objects)]
    return list({(definition.name, definition.text): definition for definition in found}.values())


def _check_unchanged(name: str, objects: Mapping[str, Callable[..., Any]], used: Module | None) -> None:
    if name in objects and used is not None and own_module(objects[name]) != used:
        raise EjectError(f"The source of {name!r} is not what the run was made with. Give it as it was then.")


def _copied(name: str, objects: Mapping[str, Callable[..., Any]]) -> list[Definition]:
    """A function or class of the user's with what it reaches in its file; refused where it imports what a script may not."""
    if name not in objects:
        raise EjectError(f"The run used your own {name!r}; give it: sheer.eject(run, script, objects={{{name!r}: {name}}}).")
    if (getattr(objects[name], "__module__", None) or "").partition(".")[0] in ALLOWED or not hasattr(objects[name], "__name__"):
        raise EjectError(f"{name!r} is no function of your own that could be copied: wrap it in a top-level function that calls it.")
    try:
        path = inspect.getsourcefile(objects[name])
        source = Path(path or "").read_text()
        found = definitions(source)
    except (OSError, TypeError) as error:
        raise EjectError(f"The source of {name!r} cannot be read: write it into a file of its own.") from error
    used = reached(found, [name])
    if not used:
        raise EjectError(f"{name!r} is not a top-level function or class of {path}: only those can be copied.")
    lost = sorted(elsewhere(source) & frozenset().union(*(definition.uses for definition in used)))
    if lost:
        raise EjectError(
            f"{name!r} uses {lost[0]!r}, which {path} makes by a statement that cannot be copied (several names at once, changed later, or "
            "inside if, try, for or with). Write it as one assignment, function or class of its own."
        )
    for definition in used:
        for bound in definition.uses & set(definition.imports):
            module = definition.imports[bound].split()[1].partition(".")[0]
            if module not in ALLOWED and module not in sys.stdlib_module_names:
                raise EjectError(
                    f"{definition.name} imports {module}, which a script may not ({', '.join(ALLOWED)} and the standard library)."
                )
    return used
