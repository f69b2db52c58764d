"""Layouts of public request traces, as their owners document them. The data itself is not shipped.

    azure-functions-2021  app,func,end_timestamp,duration with a header; seconds. An invocation starts
        `duration` before its end; a function's name is unique within its app only.
        github.com/Azure/AzurePublicDataset, AzureFunctionsInvocationTrace2021.md
    burstgpt              Timestamp,[Session ID,Elapsed time,]Model,Request tokens,Response tokens,
        Total tokens,Log Type with a header; seconds. Calls of two language models; sessions, where named,
        stand for users. github.com/HPMLL/BurstGPT, README
    twitter-cache         timestamp,key,key size,value size,client id,operation,TTL without a header; seconds.
        Reads (get, gets) are requests, everything else is left out; clients stand for users.
        github.com/twitter/cache-trace, README

Most name far more objects than a catalog has models: replay them with objects ranked by demand. Where there
are more users than a scenario has, several share a seat, always the same ones (by a hash of the name).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

PublicName = Literal["azure-functions-2021", "burstgpt", "twitter-cache"]
PUBLIC: tuple[PublicName, ...] = get_args(PublicName)

Row = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How one public trace is read."""

    columns: tuple[str, ...]
    """Columns that must be there; all columns in their order where the file has no header."""
    header: bool
    """Whether the first line names the columns."""
    read: Callable[[Row], dict[str, str | float] | None]
    """Time in s, model and user if any, of a row; None for what is no request; raises ValueError."""


def _azure(row: Row) -> dict[str, str | float]:
    start = _number(row, "end_timestamp") - _number(row, "duration")
    return {"time_s": start, "model": f"{row['app']}/{row['func']}"}


def _burstgpt(row: Row) -> dict[str, str | float]:
    session = row.get("Session ID", "")
    user = {"user": session} if session.strip() not in ("", "-1") else {}
    return {"time_s": _number(row, "Timestamp"), "model": row["Model"], **user}


def _twitter(row: Row) -> dict[str, str | float] | None:
    if row["operation"] not in ("get", "gets"):
        return None
    return {"time_s": _number(row, "timestamp"), "model": row["key"], "user": row["client id"]}


def _number(row: Row, name: str) -> float:
    try:
        return float(row[name])
    except ValueError:
        raise ValueError(f"{name} must be a number, got {row[name][:60]!r}") from None


LAYOUTS: dict[PublicName, Layout] = {
    "azure-functions-2021": Layout(
        columns=("app", "func", "end_timestamp", "duration"), header=True, read=_azure
    ),
    "burstgpt": Layout(columns=("Timestamp", "Model"), header=True, read=_burstgpt),
    "twitter-cache": Layout(
        columns=("timestamp", "key", "key size", "value size", "client id", "operation", "TTL"),
        header=False,
        read=_twitter,
    ),
}


def adapted(name: PublicName, row: Row) -> dict[str, str | float] | None:
    """A row of a public trace in the columns of one's own: time_s, model, user; None: it is no request.

    Raises:
        ValueError: If the row is not of that layout.
    """
    layout = LAYOUTS[name]
    absent = [column for column in layout.columns if column not in row]
    if absent:
        has = ", ".join(row) if layout.header else f"{len(row)} columns"
        raise ValueError(f"{name} has a column {absent[0]!r}, this row has {has[:200] or 'none'}")
    return layout.read(row)
