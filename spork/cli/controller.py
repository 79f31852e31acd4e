"""`spork controller`: the operator, which acts on the resources of a Kubernetes cluster and holds no CA key."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from spork.api.ops.application import Readiness
    from spork.controller.kubernetes.cluster import KubernetesCluster
    from spork.controller.operator import Operator
    from spork.services import Services
    from spork.settings import Settings

_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@click.command()
@click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="TOML file with settings.")
@click.option(
    "--kubeconfig",
    type=click.Path(dir_okay=False, path_type=Path),
    help="How to reach the API server; by default $KUBECONFIG, the pod's service account, or ~/.kube/config.",
)
@click.option("--context", help="The context of the kubeconfig to use.")
@click.option(
    "--namespace", "namespaces", multiple=True, help="Watch this namespace; repeat it for more. Default: all."
)
@click.option(
    "--leader-election/--no-leader-election",
    default=True,
    show_default=True,
    help="Wait until no other operator works.",
)
@click.option("--lease-namespace", help="Where the lease is kept. Default: the pod's own namespace, or `default`.")
def controller(
    config: Path | None,
    kubeconfig: Path | None,
    context: str | None,
    namespaces: tuple[str, ...],
    leader_election: bool,
    lease_namespace: str | None,
) -> None:
    """Run the operator of a Kubernetes cluster.

    Needs a migrated database (SPORK_DATABASE_URL), and no passphrase: what is to be signed it leaves to `spork serve`. Any
    number of these may run; one of them works, the others wait.
    """
    from spork.cli.logs import configure_logging
    from spork.cli.runtime import run_loop
    from spork.keys.process import harden
    from spork.settings import load_settings

    settings = load_settings(config)
    configure_logging(settings)
    harden()
    lease = (lease_namespace or _own_namespace()) if leader_election else None
    run_loop(_run(settings, kubeconfig, context, namespaces, lease))


def _own_namespace() -> str:
    return _POD_NAMESPACE.read_text("ascii").strip() if _POD_NAMESPACE.exists() else "default"


async def _run(
    settings: Settings, kubeconfig: Path | None, context: str | None, namespaces: tuple[str, ...], lease: str | None
) -> None:
    from spork.cli.runtime import stop_on_signals
    from spork.controller.kubernetes.cluster import open_cluster
    from spork.controller.kubernetes.reviews import AccessReviews
    from spork.controller.operator import Operator
    from spork.controller.reconciler import Context
    from spork.services import open_services
    from spork.store.database import OPERATOR_ROLE

    stop = stop_on_signals()
    async with (
        open_services(settings, keys=False, role=OPERATOR_ROLE) as services,
        open_cluster(kubeconfig, context, namespaces) as cluster,
    ):
        operator = Operator(Context(cluster, services, AccessReviews(cluster.connection)))
        await _operate(services, cluster, operator, lease, stop)


async def _operate(
    services: Services, cluster: KubernetesCluster, operator: Operator, lease: str | None, stop: asyncio.Event
) -> None:
    from spork.api.listeners import Listener, bind, serve
    from spork.api.ops.application import application
    from spork.cli.runtime import log
    from spork.controller.kubernetes.lease import Lease

    app = application(services, _readiness(services, cluster, operator))
    listener = Listener("ops", services.settings.ops_listen, app)
    bound = bind(listener)
    leadership = Lease(cluster.connection, lease) if lease is not None else None
    log.info("watching", api_server=cluster.connection.host, ops=str(services.settings.ops_listen), lease=lease)
    async with asyncio.TaskGroup() as group:
        group.create_task(serve([listener], [bound], stop), name="ops")
        await operator.run(stop, leadership)
        stop.set()
    log.info("the operator has ended")


def _readiness(services: Services, cluster: KubernetesCluster, operator: Operator) -> Readiness:
    """A standby is ready as well: it could take over at any moment."""
    from spork.api.ops.application import database_missing

    async def ready() -> str | None:
        if not operator.synced:
            return "the first lists are not complete"
        if lagging := cluster.lagging():
            return f"these are not being watched: {', '.join(lagging)}"
        return await database_missing(services)

    return ready
