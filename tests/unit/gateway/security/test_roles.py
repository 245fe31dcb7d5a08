from typing import get_args

import pytest

from gateway.security.roles import GRANTS, Permission, Role, RoleName, grants


def test_the_table_of_roles():
    everybody = {"public", "docs", "metrics"}
    assert {role: set(GRANTS[role]) - everybody for role in Role} == {
        "infer": {"infer"},
        "enrol": {"enrol"},
        "search": {"search"},
        "manage": {"manage"},
        "admin": set(Permission) - everybody,
    }
    assert all(everybody <= GRANTS[role] for role in Role)


def test_roles_add_up():
    assert grants(["infer", "search"], Permission.SEARCH)
    assert not grants(["infer", "search"], Permission.ENROL)


@pytest.mark.parametrize("roles", [[], ["root"], [""], ["Admin"]])
def test_unknown_roles_grant_nothing(roles):
    assert not any(grants(roles, permission) for permission in Permission)


def test_names_of_roles_in_json_are_those_of_roles():
    assert set(get_args(RoleName)) == set(Role)
