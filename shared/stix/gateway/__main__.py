"""``python -m stix.gateway --view FILE --state DIR``."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import pwd
import resource
import signal
import sys
from typing import List, Optional

from .haproxy import HaproxyError
from .render import Settings
from .supervisor import GatewayError, Supervisor

_MOST_CONNECTIONS = 20000
_OTHER_FILES = 500


def main(arguments: List[str]) -> int:
    """0 after an ordered end, 2 when it cannot begin."""
    parser = argparse.ArgumentParser(prog="python -m stix.gateway", description=__doc__)
    parser.add_argument("--view", required=True, help="the view file, JSON; it is watched")
    parser.add_argument(
        "--state", required=True, help="a folder of the gateway's own: status.json, access.log"
    )
    parser.add_argument(
        "--bind", default="*", help="the address that the services' ports are on (default: all)"
    )
    parser.add_argument("--threads", type=int, help="of HAProxy (default: one for each core)")
    options = parser.parse_args(arguments)
    handler = logging.StreamHandler()
    handler.setFormatter(_WithDetail("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    settings = Settings(options.bind, _connections(), options.threads, _user())
    try:
        supervisor = Supervisor(os.path.abspath(options.view), os.path.abspath(options.state), settings)
    except (GatewayError, HaproxyError) as exc:
        print(exc, file=sys.stderr)  # noqa: T201
        return 2
    asyncio.run(_run(supervisor))
    return 0


async def _run(supervisor: Supervisor) -> None:
    """SIGTERM and SIGINT end HAProxy too; SIGQUIT leaves it to the next supervisor."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, supervisor.stop)
    loop.add_signal_handler(signal.SIGQUIT, supervisor.stop, True)
    await supervisor.run()


class _WithDetail(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        detail = getattr(record, "detail", "")
        return super().format(record) + (f": {detail}" if detail else "")


def _connections() -> int:
    """Two files for each connection, of those that this machine allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        hard = 2 * _MOST_CONNECTIONS + _OTHER_FILES
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return max(100, min(_MOST_CONNECTIONS, (hard - _OTHER_FILES) // 2))


def _user() -> Optional[str]:
    """Whom root's HAProxy becomes: the package's own user, where there is one."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("haproxy").pw_name
    except KeyError:
        return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
