"""Logging: structlog for ours, the standard library for what others log, one form for both, on standard error."""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.tracebacks import ExceptionDictTransformer

from spork.settings import Settings


def configure_logging(settings: Settings) -> None:
    """One line an event. `console` is for people, `json` for collectors; both carry the time in UTC.

    Tracebacks never show local variables, as both renderers would by themselves: some of them are passphrases and keys.
    """
    level = logging.getLevelNamesMapping().get(settings.log_level.upper(), logging.INFO)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if settings.log_format == "json":
        last: structlog.typing.Processor = structlog.processors.JSONRenderer()
        shared.append(structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)))
    else:
        last = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    structlog.configure(
        processors=[*shared, last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=last, foreign_pre_chain=shared))
    # While the database is away the pool would say so for each of its connections, many times a second; we say it once.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[handler], force=True)
