"""Find calls that could run code out of a data file."""

from __future__ import annotations

import ast
from collections.abc import Iterator

_MODULES = frozenset(
    {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
)
"""Modules whose readers run what the file says."""
_CALLS = frozenset(
    {
        "builtins.eval",
        "builtins.exec",
        "eval",
        "exec",
        "torch.hub.load",
        "torch.jit.load",
        "torch.package.PackageImporter",
        "yaml.full_load",
        "yaml.full_load_all",
        "yaml.load",
        "yaml.load_all",
        "yaml.unsafe_load",
        "yaml.unsafe_load_all",
    }
)
_LITERALS: dict[str, tuple[str, bool]] = {
    "numpy.load": ("allow_pickle", False),
    "numpy.lib.format.read_array": ("allow_pickle", False),
    "torch.load": ("weights_only", True),
}
"""Function -> the keyword it must be given, and the literal that makes it safe."""
_HARMLESS = frozenset({"UnpicklingError"})
"""Names of those modules that run nothing: what ``torch.load`` raises."""
_NAMES = frozenset({"yaml.Loader", "yaml.FullLoader", "yaml.UnsafeLoader"})


def find_code_loaders(source: str) -> list[str]:
    """Find what could run code out of data.

    Args:
        source: Text of a Python module.

    Returns:
        ``line: what`` for each find, in the order of the lines.

    Raises:
        SyntaxError: the source is not Python.
    """
    tree = ast.parse(source)
    meanings = dict(_imported_names(tree))
    finds = {
        (getattr(node, "lineno", 0), what)
        for node in ast.walk(tree)
        for what in _finds_at(node, meanings)
    }
    return [f"{line}: {what}" for line, what in sorted(finds)]


def _imported_names(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield local name -> what it stands for, of every import, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                yield (alias.asname, alias.name) if alias.asname else (top, top)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _finds_at(node: ast.AST, meanings: dict[str, str]) -> Iterator[str]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        modules = [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            modules = [] if set(modules) <= _HARMLESS else [str(node.module)]
        yield from (f"imports {name}" for name in modules if name.partition(".")[0] in _MODULES)
    elif isinstance(node, ast.Name | ast.Attribute):
        name = _full_name(node, meanings)
        if name in _NAMES:
            yield f"uses {name}"
    elif isinstance(node, ast.Call):
        yield from _finds_in_call(node, _full_name(node.func, meanings))


def _finds_in_call(call: ast.Call, name: str) -> Iterator[str]:
    if name in _CALLS:
        yield f"calls {name}"
    if name in _LITERALS:
        keyword, safe = _LITERALS[name]
        given = {item.arg: item.value for item in call.keywords}.get(keyword)
        if not (isinstance(given, ast.Constant) and given.value is safe):
            yield f"calls {name} without {keyword}={safe}"
    if name in {"importlib.import_module", "__import__"} and call.args:
        module = getattr(call.args[0], "value", None)
        if isinstance(module, str) and module.partition(".")[0] in _MODULES:
            yield f"imports {module}"


def _full_name(node: ast.expr, meanings: dict[str, str]) -> str:
    """Dotted name with imports resolved: ``np.load`` -> ``numpy.load``; "" for anything else."""
    if isinstance(node, ast.Name):
        return meanings.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        owner = _full_name(node.value, meanings)
        return f"{owner}.{node.attr}" if owner else ""
    return ""
