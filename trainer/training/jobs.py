"""`soundscape job`: any command as a Ray job, on a cluster by address or on one of our own that lasts as long as the job."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from soundscape.errors import Unavailable
from soundscape.settings import Port, Settings, get_settings

if TYPE_CHECKING:
    from trainer.training.cluster import Request

ON_WORKERS = ("train", "retrain", "rehearse", "sweep", "bench", "ablate", "distil")
"""Commands that work in Ray workers: those ask for what the job asks for, and the command itself, which waits for them, for nothing."""
POLL_S = 0.5


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("--cpus", default=1.0, show_default=True, type=click.FloatRange(min=0, min_open=True), help="CPUs asked for.")
@click.option("--memory", default=0.0, type=click.FloatRange(min=0), help="GB asked for; none in particular unless given.")
@click.option("--gpus", default=0, show_default=True, type=click.IntRange(0, 1), help="GPUs asked for.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def job(cpus: float, memory: float, gpus: int, command: tuple[str, ...]) -> None:
    """Run COMMAND (train, sweep, evaluate, ...) as a Ray job, at RAY_ADDRESS or here; its exit code is ours, and Ctrl-C stops it."""
    from trainer.training.cluster import Request

    sys.exit(submitted(get_settings(), command, Request(cpus, memory, gpus)))


def submitted(settings: Settings, command: Sequence[str], request: Request) -> int:
    """Submit a command, print what it says, and give its exit code; whatever ends this ends the job.

    A cluster elsewhere needs this installation and these folders at the same paths. Raises Unavailable if the cluster does not answer,
    Invalid if our own cannot give what is asked for or its port is taken.
    """
    from trainer.training.cluster import address_of, cluster, environment, named, require, stoppable

    address = address_of(settings)
    if address:
        environment()
        with stoppable():
            return _run(settings, address, command, request)
    with cluster(None, settings.port(Port.RAY_DASHBOARD)) as ray:
        require(ray, request, named(None))
        return _run(settings, settings.url(Port.RAY_DASHBOARD), command, request)


def _run(settings: Settings, address: str, command: Sequence[str], request: Request) -> int:
    from ray.job_submission import JobSubmissionClient

    with _errors(address):
        client = JobSubmissionClient(address)
        own = {} if command[0] in ON_WORKERS else request.resources()
        job_id = client.submit_job(
            entrypoint=entrypoint(command),
            runtime_env={"env_vars": variables(settings, request)},
            entrypoint_num_cpus=own.get("CPU", 0),
            entrypoint_num_gpus=own.get("GPU", 0),
            entrypoint_memory=int(own.get("memory", 0)),
        )
        click.echo(f"Job {job_id}; dashboard: {client.get_address()}/#/jobs/{job_id}", err=True)
        try:
            asyncio.run(_follow(client, job_id))
            ended = _ended(client, job_id)
        except BaseException:
            click.echo(f"Stopping the job {job_id} ...", err=True)
            client.stop_job(job_id)
            _ended(client, job_id)
            raise
    if ended.driver_exit_code is None and str(ended.status) != "SUCCEEDED":
        click.echo(f"The job {job_id} ended without an exit code: {ended.message}", err=True)
    return 1 if ended.driver_exit_code is None and str(ended.status) != "SUCCEEDED" else abs(ended.driver_exit_code or 0)


def entrypoint(command: Sequence[str]) -> str:
    """The shell line that runs a command where it was typed."""
    words = [sys.executable, "-c", "from soundscape.cli import main; main()", *command]
    return f"cd {shlex.quote(str(Path.cwd()))} && exec {shlex.join(words)}"


def variables(settings: Settings, request: Request) -> dict[str, str]:
    """The job's environment: our settings, and its request as its workers'; the cluster is that which runs it."""
    ours = {name: value for name, value in os.environ.items() if name.startswith(("SOUNDSCAPE_", "MLFLOW_"))}
    ours.pop("SOUNDSCAPE_RAY_ADDRESS", None)
    asked = {"CPUS": request.cpus, "MEMORY_GB": request.memory_gb, "GPUS": request.gpus}
    return {
        **ours, "PYTHONUNBUFFERED": "1", "SOUNDSCAPE_DATA_DIR": str(settings.root),
        **{f"SOUNDSCAPE_RAY_{name}": str(value) for name, value in asked.items()},
    }  # fmt: skip


async def _follow(client: Any, job_id: str) -> None:
    async for text in client.tail_job_logs(job_id):
        click.echo(text, nl=False)


def _ended(client: Any, job_id: str) -> Any:
    """What became of the job, once it has ended."""
    while not (info := client.get_job_info(job_id)).status.is_terminal():
        time.sleep(POLL_S)
    return info


@contextmanager
def _errors(address: str) -> Iterator[None]:
    """What Ray's client raises, as our own."""
    try:
        yield
    except (RuntimeError, ValueError, OSError) as error:
        raise Unavailable(f"The Ray cluster at {address} does not take or hold the job: {str(error).splitlines()[0][:300]}") from error
