"""`make core` compiles the engine's core: `python -m matching_engine.core.build` needs Cython and a C compiler.

The modules stay the source. A .pxd here says of each what C types its classes, arguments and variables have.
A copy is compiled, changed where Cython cannot read what it needs from a .pxd:

- A class's type parameters and abstract methods, which only type checkers read, and `__slots__` are left out.
- What the .pxd cimports is not imported.
- `# locals NAME: …` in the .pxd gives the C types of a generator's variables.
- `# ints NAME: …` lists expressions which that function reads as C ints, but where one is assigned as it is: of ints
  beyond 63 bits the nearest that has no more.
- `# made: …` lists Structs that are made where they are called, field by field: all are given, but for the last that
  are None or True by default.
- `# lent NAME: …` lists fields that such Structs take over there, to which no reference is counted on the way.
- `# meets NAME: …` lists such `one & other`, ints from 0 on, of which that function asks only whether there is any bit.
- `# as NAME: … => …` says what that function reads in place of an expression: the same, by a function of `search.pxd`.

Commands, events and orders are msgspec Structs in both cores. Compiled code reads their fields where they lie:
`structs.pxd` is made here and says where that is.

What C has another way for is written twice: `names.py`, and `names.pyx` here, which is compiled as it is; so is `ids`.
"""

import ast
import ctypes
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import takewhile
from pathlib import Path
from typing import cast

from msgspec import Struct

from matching_engine import compiled_core, orders
from schemas import attributes, commands, events

MODULES = ("calendar", "asks", "checks", "book", "matching", "memory", "live", "restoring", "engine")
WRITTEN = ("ids", "names")
"""What C has another way for: its .pyx is here, in place of the module."""
HERE = Path(__file__).parent
DIRECTIVES = ("language_level=3", "annotation_typing=False", "binding=False")
OPTIONS = ("-O2", "-DNDEBUG", "-fPIC", "-fno-strict-aliasing", "-w")
SPARES = 64
"""Of each Struct so many that ended are kept at most."""
KNOWING = ("-fprofile-use", "-fprofile-partial-training")
"""How gcc compiles what has counted: what is rare, half of the code, is out of the way of what is usual. Functions that
the training did not come by are compiled as they are without it."""
Lent = tuple[int, ...]
"""The places of those fields, of a Struct that is made, which no reference is counted to on the way."""
_KIND = """    static PyTypeObject *cx_kind(const char *module, const char *name) {
        PyObject *of = PyImport_ImportModule(module), *kind = of ? PyObject_GetAttrString(of, name) : NULL;
        Py_XDECREF(of);
        return (PyTypeObject *)kind;
    }"""


class _Member(ctypes.Structure):
    """CPython's PyMemberDef, as far as it is needed."""

    _fields_ = (("name", ctypes.c_char_p), ("type", ctypes.c_int), ("offset", ctypes.c_ssize_t))


class _Descriptor(ctypes.Structure):
    """CPython's PyMemberDescrObject: what a class has for each of its slots."""

    _fields_ = (
        ("references", ctypes.c_ssize_t),
        ("type", ctypes.c_void_p),
        ("of", ctypes.c_void_p),
        ("name", ctypes.c_void_p),
        ("qualname", ctypes.c_void_p),
        ("member", ctypes.POINTER(_Member)),
    )


def structs(makers: Iterable[tuple[str, Lent]]) -> str:
    """structs.pxd: the layout of all Structs that the core meets, and what makes them, with such fields lent."""
    modules = (attributes, commands, events, orders)
    kinds = [
        kind
        for module in modules
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Struct) and kind.__module__ == module.__name__
    ]
    layouts = [_KIND]
    classes: list[str] = []
    declared: list[str] = []
    for kind in kinds:
        base = kind.__mro__[1]
        inherits = base in kinds
        head, parent = (f"Cx{base.__name__} __pyx_base;", f"({base.__name__})") if inherits else ("PyObject_HEAD", "")
        fields = _fields_by_offset(kind)
        members = " ".join(f"PyObject *f_{name};" for name in fields)
        layouts.append(f"    typedef struct {{ {head} {members} }} Cx{kind.__name__};")
        name = f"{kind.__module__}.{kind.__name__}"
        classes.append(f"    ctypedef class {name}{parent} [object Cx{kind.__name__}, check_size error]:")
        classes += [f'        cdef object {name} "f_{name}"' for name in fields] or ["        pass"]
        if not kind.__struct_config__.gc:
            left_out = list(takewhile(lambda value: value is None or value is True, reversed(kind.__struct_defaults__)))
            given = kind.__struct_fields__[: len(kind.__struct_fields__) - len(left_out)]
            layouts.append(_maker(kind, given, [name for name in kind.__struct_fields__ if name not in fields]))
            for lent in sorted(lent for made, lent in makers if made == kind.__name__):
                fields = [f"{'void *' if place in lent else 'object '}{name}" for place, name in enumerate(given)]
                maker = f'{_maker_name(kind.__name__, lent)} "cx_new_{kind.__name__}"'
                declared.append(f"    {kind.__name__} {maker} ({', '.join(fields)})")
    return "\n".join(["cdef extern from *:", "    '''", *layouts, "    '''", *classes, *declared, ""])


def _maker(kind: type[Struct], given: Sequence[str], inherited: Sequence[str]) -> str:
    """The C functions that make one, all fields set, as msgspec makes those that no collector tracks, and that end one:
    msgspec's looks for the fields each time. Some that ended are kept, and made again."""
    values = dict.fromkeys(kind.__struct_fields__, "Py_None") | {name: name for name in given}
    values |= {
        name: "Py_True"
        for name, value in zip(reversed(kind.__struct_fields__), reversed(kind.__struct_defaults__), strict=False)
        if value is True and name not in given
    }
    members = {name: f"{'__pyx_base.' if name in inherited else ''}f_{name}" for name in values}
    struct, spares = f"Cx{kind.__name__}", f"cx_spares_{kind.__name__}"
    lines = [
        f"    static PyObject *cx_spare_{kind.__name__}[{SPARES}]; static int {spares};",
        f"static void cx_end_{kind.__name__}(PyObject *self) {{",
        f"{struct} *gone = ({struct} *)self;",
        *(f"Py_XDECREF(gone->{member});" for member in members.values()),
        f"if ({spares} < {SPARES}) cx_spare_{kind.__name__}[{spares}++] = self;",
        "else { PyTypeObject *kind = Py_TYPE(self); PyObject_Free(self); Py_DECREF(kind); } }",
        f"static CYTHON_INLINE PyObject *cx_new_{kind.__name__}({', '.join(f'PyObject *{name}' for name in given)}) {{",
        f"static PyTypeObject *kind; {struct} *made;",
        f"if ({spares}) {{ made = ({struct} *)cx_spare_{kind.__name__}[--{spares}]; Py_SET_REFCNT(made, 1); }}",
        f'else {{ if (!kind && !(kind = cx_kind("{kind.__module__}", "{kind.__name__}"))) return NULL;',
        f"if (!(made = ({struct} *)_PyObject_New(kind))) return NULL;",
        f"kind->tp_dealloc = cx_end_{kind.__name__}; }}",
        *(f"made->{members[name]} = Py_NewRef({value});" for name, value in values.items()),
        "return (PyObject *)made; }",
    ]
    return " ".join(lines)


def _fields_by_offset(kind: type[Struct]) -> list[str]:
    """The fields that the class itself has, as they lie in memory."""
    offsets = {
        name: cast(int, _Descriptor.from_address(id(kind.__dict__[name])).member.contents.offset)
        for name in kind.__struct_fields__
        if name in kind.__dict__
    }
    return sorted(offsets, key=lambda name: offsets[name])


def changed(source: str, types: str) -> str:
    """The copy of a module that Cython compiles with that .pxd; its lines keep their numbers."""
    lines = source.split("\n")
    module = ast.parse(source)
    functions = dict(_functions(module.body))
    for name, expressions in re.findall(r"^# ints (\S+): (.*)$", types, re.MULTILINE):
        for expression in re.findall(r"[\w.]+(?:\[[^]]*\])?", expressions):
            _read_as_int(lines, functions[name], expression)
    for name, expressions in re.findall(r"^# meets (\S+): (.*)$", types, re.MULTILINE):
        for one, other in re.findall(r"(\w+) & (\w+)", expressions):
            _replace(lines, functions[name], f"{one} & {other}", f"cx_meet({one}, {other})")
    for name, read, instead in re.findall(r"^# as (\S+): (.*) => (.*)$", types, re.MULTILINE):
        _replace(lines, functions[name], read, instead)
    for node in module.body:
        if isinstance(node, ast.ImportFrom):
            _import_only(lines, node, [alias for alias in node.names if alias.name not in _cimported(types)])
        elif isinstance(node, ast.ClassDef):
            line = re.sub(r"\((ABC, )?Generic\[.*\]\):", ":", lines[node.lineno - 1])
            lines[node.lineno - 1] = re.sub(r"\((\w+)\[.*\]\):", r"(\1):", line)
    first_import = next(node for node in module.body if isinstance(node, ast.ImportFrom | ast.Import))
    lines[first_import.lineno - 1] = f"import cython; {lines[first_import.lineno - 1]}"
    for name, variables in re.findall(r"^# locals (\S+): (.*)$", types, re.MULTILINE):
        at = functions[name].lineno - 1
        assert not lines[at - 1], "a blank line stands before each function"
        lines[at - 1] = f"{lines[at][: -len(lines[at].lstrip())]}@cython.locals({variables})"
    for call, kind, lent in _makings(source, types):
        at = call.lineno - 1
        lines[at] = re.sub(rf"(?<![\w.]){kind}\(", f"{_maker_name(kind, lent)}(", lines[at], count=1)
        for place in lent:
            at, field = call.args[place].lineno - 1, ast.unparse(call.args[place])
            lines[at] = re.sub(
                rf"(?<![\w.]){re.escape(field)}(?![\w\[(.])", f"cython.cast(cython.p_void, {field})", lines[at]
            )
    text = "\n".join(lines)
    unread = re.compile(r"^    (@abstractmethod|__slots__ = \([^)]*\))$", re.MULTILINE)
    return unread.sub(lambda lines: "\n" * lines.group().count("\n"), text)


def _makings(source: str, types: str) -> Iterator[tuple[ast.Call, str, Lent]]:
    """Where Structs are made, and which."""
    made = {kind for kinds in re.findall(r"^# made: (.*)$", types, re.MULTILINE) for kind in kinds.split()}
    lent = dict(re.findall(r"^# lent (\S+): (.*)$", types, re.MULTILINE))
    for name, function in _functions(ast.parse(source).body):
        fields = lent.get(name, "").split()
        for call in ast.walk(function):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in made and call.args:
                places = [place for place, given in enumerate(call.args) if ast.unparse(given) in fields]
                yield call, call.func.id, tuple(places)


def _maker_name(kind: str, lent: Lent) -> str:
    return "_".join(("cx_new", kind, *map(str, lent)))


def _functions(body: Iterable[ast.stmt], of: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from _functions(node.body, f"{node.name}.")
        elif isinstance(node, ast.FunctionDef):
            yield of + node.name, node


def _cimported(types: str) -> set[str]:
    named = re.findall(r"^from \S+ cimport (\([^)]*\)|.*)$", types, re.MULTILINE)
    return {name.split()[-1] for names in named for name in names.strip("()").split(",") if name.strip()}


def _read_as_int(lines: list[str], function: ast.FunctionDef, expression: str) -> None:
    lent = re.fullmatch(r"\w+\.\w+", expression)  # a field of a Struct, which Cython would count a reference to
    _replace(
        lines,
        function,
        expression,
        f"cx_read(cython.cast(cython.p_void, {expression}))" if lent else f"cx_value({expression})",
    )


def _replace(lines: list[str], function: ast.FunctionDef, expression: str, by: str) -> None:
    """But for where it is assigned to, called or a part of something longer."""
    read = re.compile(rf"(?<![\w.]){re.escape(expression)}(?![\w\[(.])(?!\s*[-+|&]?=[^=])")
    assigned = re.compile(rf"^[^=]* = {re.escape(expression)}(  #.*)?$")
    assert function.end_lineno is not None
    there = range(function.body[0].lineno - 1, function.end_lineno)
    if not any(read.search(lines[at]) for at in there):
        raise ValueError(f"{function.name} does not read {expression}: correct its .pxd")
    for at in there:
        if not assigned.match(lines[at]):
            lines[at] = read.sub(by, lines[at])


def _import_only(lines: list[str], node: ast.ImportFrom, names: list[ast.alias]) -> None:
    if len(names) == len(node.names):
        return
    assert node.end_lineno is not None
    for at in range(node.lineno - 1, node.end_lineno):
        lines[at] = ""
    if names:
        lines[node.lineno - 1] = f"from {node.module} import {', '.join(alias.name for alias in names)}"


def build(folder: Path) -> None:
    """Compiles the core; what is in `folder` then is whole. Raises CalledProcessError where a compiler fails."""
    draft = folder.with_name("draft")
    sources = draft / "matching_engine"
    shutil.rmtree(draft, ignore_errors=True)
    sources.mkdir(parents=True)
    (sources / "__init__.py").touch()
    for types_of in HERE.glob("*.pxd"):
        if types_of.stem not in MODULES:
            shutil.copy(types_of, sources)
    for name in WRITTEN:
        shutil.copy(HERE / f"{name}.pyx", sources)
    makers: set[tuple[str, Lent]] = set()
    for name in MODULES:
        source, types = (HERE.parent / f"{name}.py").read_text(), (HERE / f"{name}.pxd").read_text()
        makes = {(kind, lent) for _, kind, lent in _makings(source, types)}
        makers |= makes
        (sources / f"{name}.py").write_text(changed(source, types))
        imports = [f"from matching_engine.structs cimport {_maker_name(*each)}\n" for each in sorted(makes)]
        (sources / f"{name}.pxd").write_text("".join(imports) + types)
    (sources / "structs.pxd").write_text(structs(makers))
    modules = (*MODULES, *WRITTEN)
    with ThreadPoolExecutor() as workers:
        list(workers.map(lambda name: _write_c(draft, name), modules))
        if _counts():
            list(workers.map(lambda name: _compile(draft, name, "-fprofile-generate"), modules))
            _train(sources)
            list(workers.map(lambda name: _compile(draft, name, *KNOWING), modules))
        else:
            list(workers.map(lambda name: _compile(draft, name), modules))
    done = draft / "done"
    done.mkdir()
    for made in sources.glob(f"*{sysconfig.get_config_var('EXT_SUFFIX')}"):
        made.rename(done / made.name)
    shutil.rmtree(folder, ignore_errors=True)
    done.rename(folder)
    shutil.rmtree(draft)


def _write_c(draft: Path, name: str) -> None:
    directives = [word for directive in DIRECTIVES for word in ("-X", directive)]
    source = f"matching_engine/{name}.{'pyx' if name in WRITTEN else 'py'}"
    subprocess.run([sys.executable, "-m", "cython", "-3", *directives, source], cwd=draft, check=True)


def _compile(draft: Path, name: str, *options: str) -> None:
    made = f"matching_engine/{name}{sysconfig.get_config_var('EXT_SUFFIX')}"
    # What gcc counted of an object is beside it, so that it is the same object both times.
    parts = ["-c", f"matching_engine/{name}.c", "-o", f"matching_engine/{name}.o"]
    include = f"-I{sysconfig.get_paths()['include']}"
    subprocess.run([*_compiler(), *OPTIONS, *options, include, *parts], cwd=draft, check=True)
    link = sysconfig.get_config_var("LDSHARED").split()
    subprocess.run([*link, *options, f"matching_engine/{name}.o", "-o", made], cwd=draft, check=True)


def _compiler() -> list[str]:
    return cast(str, sysconfig.get_config_var("CC")).split()


def _counts() -> bool:
    """Whether the compiler is gcc: another counts what a program does in ways of its own."""
    told = subprocess.run([*_compiler(), "--version"], capture_output=True, text=True, check=True).stdout
    return "Free Software Foundation" in told


def _train(sources: Path) -> None:
    """The core that counts what it does goes through usual markets."""
    command = [sys.executable, "-m", "tests.benchmarks.training", str(sources)]
    subprocess.run(command, cwd=HERE.parents[1], env={**os.environ, "CX_CORE": "pure"}, check=True)


def main() -> None:
    """Keeps the newest core alone."""
    folder = compiled_core()
    folder.parent.mkdir(parents=True, exist_ok=True)
    build(folder)
    for other in folder.parents[1].iterdir():
        if other != folder.parent:
            shutil.rmtree(other)
    print(f"The compiled core is in {folder}: it runs from now on. CX_CORE=pure runs the other one.")


if __name__ == "__main__":
    main()
