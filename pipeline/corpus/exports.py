"""Rows of annotation tools in the form that the JSONL reader takes: `text` with `entities`, or with tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schema.errors import DataError

Row = dict[str, Any]


def doccano(row: Mapping[str, Any]) -> Row:
    """`text` with `label` or `labels`: [[start, end, type], ...], or with `entities` of `start_offset` and `label`."""
    row = dict(row)
    for key in ("label", "labels"):
        if key in row:
            row["entities"] = row.pop(key)
    return row


def prodigy(row: Mapping[str, Any]) -> Row:
    """`text` with `spans`, and `tokens` with their offsets; an answer other than accept says that spans are wrong."""
    row = dict(row)
    if "spans" in row:
        row["entities"] = row.pop("spans")
    if row.pop("answer", "accept") != "accept":
        row.pop("entities", None)
    return row


def labelstudio(row: Mapping[str, Any]) -> Row:
    """A task of the JSON export (`data` with `annotations`), or a row of JSON-MIN (the keys of `data`, and `label`)."""
    if "data" not in row:
        row = dict(row)
        if "label" in row:
            row["entities"] = row.pop("label")
        return row
    given = [one for one in row.get("annotations") or () if not one.get("was_cancelled")]
    if len(given) > 1:
        raise DataError(f"{len(given)} annotations of one text", todo="keep one of them")
    task = {"id": row.get("id"), **row["data"]}
    if given:
        results = [one["value"] for one in given[0].get("result") or () if isinstance(one.get("value"), dict)]
        task["entities"] = [value for value in results if "start" in value]
    return task


EXPORTS = {"doccano": doccano, "prodigy": prodigy, "labelstudio": labelstudio}
