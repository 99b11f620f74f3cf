"""Where groups and priorities of models end: at the namespace, or nowhere.

A tenant is a namespace, or the whole cluster (the tenant `""`), as the operator's setting says.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from llama_halo.plan.facts import ResourceDemand

_Item = TypeVar("_Item")


def is_of_tenant(demand: ResourceDemand, model: str) -> bool:
    """Tell whether a model (namespace/name) is of a demand's tenant."""
    return not demand.tenant or model.partition("/")[0] == demand.tenant


def ordered(
    items: Iterable[_Item],
    *,
    tenant: Callable[[_Item], str],
    key: Callable[[_Item], Any],
    own_key: Callable[[_Item], Any],
) -> list[_Item]:
    """Sort by `key`; then each tenant's items change places among themselves, by `own_key`.

    So no tenant gains or loses a place by what it says in `own_key`, such as a priority.
    """
    by_key = sorted(items, key=key)
    of_tenants: dict[str, list[_Item]] = defaultdict(list)
    for item in by_key:
        of_tenants[tenant(item)].append(item)
    own = {name: iter(sorted(group, key=own_key)) for name, group in of_tenants.items()}
    return [next(own[tenant(item)]) for item in by_key]
