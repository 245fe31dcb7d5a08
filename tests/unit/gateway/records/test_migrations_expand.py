"""Each migration says which release can still use its tables, and says it truly."""

import ast
from pathlib import Path

import pytest

from gateway.records import migrate

FIRST = "0010"
"""The first migration that says it."""
VERSIONS = migrate._MIGRATIONS / "versions"
EXPANDING = {"create_table", "create_index", "add_column", "f"}
"""Steps that code which does not know them does not notice."""


def later_migrations() -> list[Path]:
    return [each for each in sorted(VERSIONS.glob("r*.py")) if each.name[1:5] >= FIRST]


def oldest_code(source: ast.Module) -> str:
    for statement in source.body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "oldest_code":
            found = ast.literal_eval(statement.value)
            assert isinstance(found, str)
            return found
    raise AssertionError("a migration names the `oldest_code` that can use its tables")


def what_older_code_would_notice(source: ast.Module) -> list[str]:
    """Steps of `upgrade` that are not only additions."""
    calls = [
        (node, node.func.attr)
        for function in source.body
        if isinstance(function, ast.FunctionDef) and function.name != "downgrade"
        for node in ast.walk(function)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and ast.unparse(node.func.value) == "op"
    ]
    found = [name for _, name in calls if name not in EXPANDING]
    for node, name in calls:
        words = {each.arg: ast.unparse(each.value) for each in ast.walk(node) if is_named(each)}
        if name == "create_index" and words.get("unique") == "True":
            found.append("a unique index")
        if name == "add_column":
            has_value = words.get("nullable") == "True" or "server_default" in words
            found += [] if has_value else ["a column that older code does not fill"]
    return found


def is_named(node: ast.AST) -> bool:
    return isinstance(node, ast.keyword) and node.arg is not None


@pytest.mark.parametrize("file", later_migrations(), ids=lambda path: path.stem)
def test_what_a_migration_says_about_older_code_is_true(file: Path):
    source = ast.parse(file.read_text())
    oldest, own = oldest_code(source), file.name[1:5]
    assert FIRST <= oldest <= own
    if oldest < own:
        assert what_older_code_would_notice(source) == []


@pytest.mark.parametrize(
    ("step", "noticed"),
    [
        ("op.add_column('faces', sa.Column('a', sa.Text(), nullable=True))", False),
        ("op.add_column('faces', sa.Column('a', sa.Text(), server_default=''))", False),
        ("op.add_column('faces', sa.Column('a', sa.Text(), nullable=False))", True),
        ("op.create_index(op.f('i'), 'faces', ['a'])", False),
        ("op.create_index(op.f('i'), 'faces', ['a'], unique=True)", True),
        ("op.drop_column('faces', 'a')", True),
        ("op.execute('CREATE TRIGGER a')", True),
        ("op.alter_column('faces', 'a', nullable=False)", True),
    ],
)
def test_steps_that_older_code_notices(step, noticed):
    source = ast.parse(f"def upgrade():\n    {step}")
    assert bool(what_older_code_would_notice(source)) is noticed
