"""What one module imports, read from its text without running it."""

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from scripts.bundling.tree import FOLDERS

_OWN_NAME = re.compile(rf"({'|'.join(FOLDERS)})(\.[a-z_][a-z0-9_]*)+", re.ASCII)
_DATA_NAME = re.compile(r"[\w.-]+\.csv", re.ASCII)
# uvicorn imports its event loop and its parser by the names its configuration has.
_NAMED_IN_CONFIG: Final = {"uvloop": "loop", "httptools": "http"}


@dataclass(slots=True)
class Imports:
    """modules: dotted names that must exist. members: names that are a module or an attribute.

    named: modules of ours that a module importing by name mentions. data: file names mentioned.
    """

    modules: set[str] = field(default_factory=set)
    members: set[str] = field(default_factory=set)
    named: set[str] = field(default_factory=set)
    data: set[str] = field(default_factory=set)


def imports_of(source: str, package: str) -> Imports:
    """Every import of `source`, also those inside functions; not those for the type checker only.

    package: the dotted package the module lies in, for relative imports.
    """
    visitor = _Visitor(package)
    visitor.visit(ast.parse(source))
    if not visitor.imports_by_name:
        visitor.found.named.clear()
    return visitor.found


class _Visitor(ast.NodeVisitor):
    def __init__(self, package: str) -> None:
        self.package = package
        self.found = Imports()
        self.imports_by_name = False

    def visit_Import(self, node: ast.Import) -> None:
        self.found.modules.update(alias.name for alias in node.names)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = node.module or ""
        if node.level:
            above = self.package.split(".")[: len(self.package.split(".")) - node.level + 1]
            module = ".".join([*above, *filter(None, [module])])
        self.found.modules.add(module)
        self.found.members.update(f"{module}.{alias.name}" for alias in node.names)

    def visit_If(self, node: ast.If) -> None:
        test = node.test
        name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
        self._visit_all(
            node.orelse if name == "TYPE_CHECKING" else [test, *node.body, *node.orelse]
        )

    def visit_Call(self, node: ast.Call) -> None:
        called = ast.unparse(node.func)
        if called in ("import_module", "importlib.import_module"):
            self.imports_by_name = True
            self.found.modules.update(_texts(node.args[:1]))
        if called == "uvicorn.Config":
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            for package, argument in _NAMED_IN_CONFIG.items():
                if argument in given and package in _texts([given[argument]]):
                    self.found.modules.add(package)
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        for text in _texts([node]):
            if _OWN_NAME.fullmatch(text):
                self.found.named.add(text)
            if _DATA_NAME.fullmatch(text):
                self.found.data.add(text)

    def _visit_all(self, nodes: Iterable[ast.AST]) -> None:
        for node in nodes:
            self.visit(node)


def _texts(nodes: Iterable[ast.AST]) -> list[str]:
    constants = (node.value for node in nodes if isinstance(node, ast.Constant))
    return [value for value in constants if isinstance(value, str)]
