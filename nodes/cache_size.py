"""How much may be kept on disk, as the artist has set it, and where what is read of a vocabulary is kept."""

from __future__ import annotations

import logging
import math
import os
from pathlib import Path

import folder_paths

from ..unlearn_core.saved_work import cache_folder

LIMIT_VARIABLE, LIMIT_MB = "UNLEARN_CACHE_MB", 512


def folder() -> Path:
    """Where cached deltas lie."""
    return Path(folder_paths.get_user_directory()) / "unlearn_cache"


def words_folder() -> Path | None:
    """Where what text encoders make of the vocabulary is kept; None where the artist wants no cache."""
    return cache_folder(folder() / "vocabulary") if limit() > 0 else None


def limit() -> float:
    """The cache's size in bytes: `UNLEARN_CACHE_MB` megabytes, 0 for no cache; what is no number is the default."""
    text = os.environ.get(LIMIT_VARIABLE, str(LIMIT_MB))
    try:
        megabytes = float(text)
    except ValueError:
        megabytes = math.nan
    if math.isfinite(megabytes):
        return megabytes * 2**20
    if text.strip():
        logging.warning(
            "Unlearn: %s is '%s', which is no number of megabytes: %d is used.", LIMIT_VARIABLE, text, LIMIT_MB
        )
    return LIMIT_MB * 2**20
