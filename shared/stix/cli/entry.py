"""The outermost edge of the command line: every ending becomes an exit code and at most one paragraph."""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING

from stix import __version__

if TYPE_CHECKING:
    from stix.cli.session import Session
    from stix.model.errors import StixError

__all__ = ["BAD_INPUT", "BROKEN_PIPE", "FAILURE", "INTERRUPTED", "main", "run"]

FAILURE, BAD_INPUT, INTERRUPTED = 1, 2, 130
# What the shell reports for a program that SIGPIPE ended.
BROKEN_PIPE = 141
_CALLERS_FAULT = frozenset({400, 404, 409, 422})


def main() -> None:
    """The console script."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        print(f"stix {__version__}")
        return
    # Most of a command's time is imports, which leave no garbage: it is looked for seldom, not at the end.
    gc.set_threshold(100_000)
    # Where rich is installed httpx would load a command line of its own.
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
    from stix.cli.session import Session

    code = run(sys.argv[1:], Session(os.environ))
    if code == BROKEN_PIPE:
        # Else the interpreter's own flush at exit would complain once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    gc.freeze()
    sys.exit(code)


def run(arguments: list[str], session: Session) -> int:
    """Run one command; its exit code. Prints errors, raises none."""
    import click

    from stix.cli.app import app
    from stix.model.errors import StixError

    if session.environ.get("_STIX_COMPLETE"):
        app.main(args=arguments, prog_name="stix")
    try:
        with app.make_context("stix", list(arguments), obj=session) as context:
            app.invoke(context)
            sys.stdout.flush()
        return 0
    except click.exceptions.Exit as exc:
        return exc.exit_code
    except (click.Abort, KeyboardInterrupt):
        session.note("")
        return INTERRUPTED
    except click.ClickException as exc:
        _print_error(session, exc.format_message(), _usage_hint(exc))
        return exc.exit_code
    except BrokenPipeError:
        return BROKEN_PIPE
    except StixError as exc:
        _print_trace(session)
        _print_error(session, exc.message, exc.hint)
        return exit_code(exc)
    except Exception as exc:  # noqa: BLE001 - the outermost edge: it is reported, never raised to a person
        _print_trace(session)
        _print_error(
            session, f"unexpected {type(exc).__name__}: {exc}", "Run it again with STIX_DEBUG=1 to see where."
        )
        return FAILURE
    finally:
        session.close()


def exit_code(error: StixError) -> int:
    """2 where the caller can fix it by asking for something else, 1 for failures of the world."""
    return BAD_INPUT if error.http_status in _CALLERS_FAULT else FAILURE


def _usage_hint(exc: Exception) -> str:
    context = getattr(exc, "ctx", None)
    return f"See `{context.command_path} --help`." if context is not None else ""


def _print_trace(session: Session) -> None:
    if session.environ.get("STIX_DEBUG"):
        import traceback

        traceback.print_exc()


def _print_error(session: Session, message: str, hint: str) -> None:
    session.note(f"stix: error: {message}" + (f"\n  {hint}" if hint else ""))
