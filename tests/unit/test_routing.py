"""The route table follows the transactions, in their order, whatever order the news comes in."""

from itertools import permutations

import pytest

from scalemesh.services.routing import RouteTable
from scalemesh.values import DeploymentId, Digest, HostKind, ProjectId, Route

A, B = ProjectId("prj_a"), ProjectId("prj_b")


def route(project: ProjectId, host: str, deployment: str = "dpl_1") -> Route:
    return Route(
        host=host,
        kind=HostKind.PRODUCTION,
        project=project,
        project_name=project,
        deployment=DeploymentId(deployment),
        manifest=Digest("0" * 64),
    )


def shown(table: RouteTable, host: str) -> str | None:
    found = table.find(host)
    return found.deployment if found else None


def test_a_host_leads_where_it_was_last_sent() -> None:
    table = RouteTable()
    assert table.apply(A, 1, [route(A, "a.localhost", "dpl_1")])
    assert table.apply(A, 2, [route(A, "a.localhost", "dpl_2")])
    assert shown(table, "a.localhost") == "dpl_2"
    assert table.find("b.localhost") is None


def test_an_older_generation_changes_nothing() -> None:
    table = RouteTable()
    table.apply(A, 5, [route(A, "a.localhost", "dpl_5")])
    assert not table.apply(A, 4, [route(A, "a.localhost", "dpl_4"), route(A, "x.localhost")])
    assert shown(table, "a.localhost") == "dpl_5"
    assert table.find("x.localhost") is None


def test_a_repeat_changes_nothing() -> None:
    table = RouteTable()
    for _ in range(2):
        assert table.apply(A, 1, [route(A, "a.localhost")])
    assert shown(table, "a.localhost") == "dpl_1"


def test_hosts_that_a_project_lost_lead_nowhere() -> None:
    table = RouteTable()
    table.apply(A, 1, [route(A, "a.localhost"), route(A, "www.a.com")])
    table.apply(A, 2, [route(A, "a.localhost")])
    assert table.find("www.a.com") is None
    assert shown(table, "a.localhost") == "dpl_1"


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_a_domain_that_moved_belongs_to_its_new_project_in_whatever_order_the_news_comes(
    order: tuple[int, ...],
) -> None:
    news = [
        (A, 1, [route(A, "www.a.com", "dpl_a")]),
        (A, 2, []),
        (B, 3, [route(B, "www.a.com", "dpl_b")]),
    ]
    table = RouteTable()
    for number in order:
        table.apply(*news[number])
    assert shown(table, "www.a.com") == "dpl_b"


def test_a_removed_project_never_comes_back() -> None:
    table = RouteTable()
    table.apply(A, 1, [route(A, "a.localhost")])
    table.apply(B, 1, [route(B, "b.localhost")])
    table.remove(A)
    table.remove(A)
    assert table.find("a.localhost") is None
    assert not table.apply(A, 9, [route(A, "a.localhost")])
    assert table.find("a.localhost") is None
    assert shown(table, "b.localhost") == "dpl_1"


def test_a_removed_project_takes_no_host_of_its_heir_along() -> None:
    table = RouteTable()
    table.apply(A, 1, [route(A, "www.a.com")])
    table.apply(B, 2, [route(B, "www.a.com", "dpl_b")])
    table.remove(A)
    assert shown(table, "www.a.com") == "dpl_b"


def test_a_project_cannot_be_given_another_projects_route() -> None:
    with pytest.raises(ValueError, match="that project alone"):
        RouteTable().apply(A, 1, [route(B, "b.localhost")])
