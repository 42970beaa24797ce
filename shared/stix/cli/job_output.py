"""Following operations and jobs: what a person sees, and the exit code that is the job's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NoReturn

import click

from stix.cli.amounts import plural
from stix.cli.log_output import LogPrinter
from stix.cli.session import Session
from stix.sdk.errors import SdkError
from stix.sdk.follow import follow_operation
from stix.sdk.log_stream import LogReader
from stix.sdk.log_tail import read_tail
from stix.sdk.responses import Job, Operation

if TYPE_CHECKING:
    from stix.sdk.client import Client

__all__ = ["TERMINAL", "ending_text", "follow_job", "job_exit_code", "wait_for_operation"]

TERMINAL = frozenset({"SUCCEEDED", "FAILED", "FAILED_SETUP", "FAILED_DRIVER", "CANCELLED"})
_INTERRUPTED = 130
# The caller's mistakes among the codes of failed operations; everything else is a failure of the world.
_STATUS_OF_CODE = {
    "invalid_input": 400,
    "invalid_task": 400,
    "not_found": 404,
    "conflict": 409,
    "cluster_not_up": 409,
    "name_taken": 409,
    "no_offer": 422,
}


def wait_for_operation(
    session: Session, client: Client, operation_id: str, come_back: str, *, prefix: str = ""
) -> Operation:
    """Print the progress until the operation has ended well. Raises ``SdkError`` with its error where it
    failed; Ctrl-C says ``come_back`` and ends the command with 130."""
    try:
        operation = follow_operation(client, operation_id, lambda line: session.note(prefix + line))
    except KeyboardInterrupt:
        _detach(session, f"The request goes on. See: {come_back}")
    if operation["status"] == "SUCCEEDED":
        return operation
    error = operation["error"]
    if error is None:
        raise SdkError(
            "cancelled", f"{prefix}The {operation['kind']} of {operation['cluster']} was cancelled."
        )
    status = _STATUS_OF_CODE.get(error["code"], 503)
    raise SdkError(error["code"], prefix + error["message"], error.get("hint", ""), status)


def follow_job(
    session: Session,
    client: Client,
    cluster: str,
    job_id: int | Literal["latest"],
    *,
    follow: bool = True,
    tail: int = 0,
    rank: int | None = None,
) -> int:
    """Print the log (of the last ``tail`` lines where given), to the job's end with ``follow``; the exit
    code. Ctrl-C detaches: it says how to come back and ends the command with 130."""
    printer = LogPrinter()
    status = ""

    def on_job(job: Job) -> None:
        nonlocal status
        printer.prefixed = job["num_nodes"] > 1
        if follow and job["status"] != status:
            status = job["status"]
            if text := _status_text(job):
                printer.flush()
                session.note(text)

    with LogReader(client, cluster, job_id, rank=rank) as reader:
        try:
            cursor = ""
            if tail > 0:
                last = read_tail(reader, tail)
                on_job(last.job)
                printer.write_tail(last, tail)
                cursor = last.cursor
            job = reader.copy(printer, follow=follow, cursor=cursor, on_job=on_job)
        except KeyboardInterrupt:
            printer.close()
            _detach(session, f"Detached; the job goes on. Come back: stix logs {cluster} {reader.job_id}")
        printer.close()
    if follow:
        session.note(ending_text(job))
    return job_exit_code(job)


def _detach(session: Session, text: str) -> NoReturn:
    session.note("\n" + text)
    raise click.exceptions.Exit(_INTERRUPTED)


def job_exit_code(job: Job) -> int:
    """The job's own; 1 where it failed without one, 0 while it has not ended."""
    if job["status"] == "SUCCEEDED" or job["status"] not in TERMINAL:
        return 0
    code = job["exit_code"]
    if job["status"] == "CANCELLED" or code is None or not 0 < code < 256:
        return 1
    return code


def _status_text(job: Job) -> str:
    reason = f" ({job['reason']})" if job["reason"] else ""
    match job["status"]:
        case "PENDING":
            return f"Job {job['id']} waits for its turn{reason}."
        case "SETTING_UP":
            return f"Job {job['id']} is being set up."
        case "RUNNING":
            return f"Job {job['id']} runs on {plural(job['num_nodes'], 'node')}."
    return ""


def ending_text(job: Job) -> str:
    """How the job ended: its status, the reason, and the exit codes of the ranks that failed."""
    failed = [f"rank {rank}: {code}" for rank, code in enumerate(job["exit_codes"]) if code]
    text = f"Job {job['id']} {job['status']}"
    if job["status"] == "SUCCEEDED":
        return text + "."
    if job["reason"]:
        text += f": {job['reason'].rstrip('.')}"
    elif job["exit_code"] and job["status"] != "CANCELLED":
        text += f": exit code {job['exit_code']}"
    if len(job["exit_codes"]) > 1 and failed and job["status"] != "CANCELLED":
        text += f" (exit codes: {', '.join(failed)})"
    return text + "."
