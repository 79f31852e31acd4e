"""Publishes one full CRL of a built home, in a process of its own, and says what it took.

`python tests/bench/crl_build.py HOME AUTHORITY` prints one line of JSON: seconds, and the most memory that the process and the
worker that encodes the entries held, beside what the process held before.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

from spork.api.crl.publication import publisher
from spork.ids import AuthorityId
from spork.issuance.crl_schedule import CRLScope
from tests.bench.bench_home import services_of


def _memory(field: str) -> float:
    """MiB of this process: VmRSS is what it holds now, VmHWM the most that it held."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) / 1024


def _forget_peak() -> None:
    # Opening the keys takes more memory for a moment than a list does (Argon2id); that is not what is measured.
    Path("/proc/self/clear_refs").write_text("5")


def _parts(published: Any, signer: Any) -> dict[str, float]:
    """The same list by its parts alone, without database and worker: encoding it, and signing it."""
    from spork.x509.crl import CRLHeader, build_tbs, encode_entries, entries_of, read_crl

    read = read_crl(published.der)
    entries = list(entries_of(read.crl))
    started = time.perf_counter()
    octets = encode_entries(entries)
    header = CRLHeader(
        issuer_der=read.crl.issuer.public_bytes(),
        signature=signer.algorithm.identifier,
        authority_key_identifier=read.authority_key_identifier or b"",
        number=published.number,
        this_update=read.this_update,
        next_update=read.next_update or read.this_update,
    )
    tbs = build_tbs(header, octets)
    encoded = time.perf_counter()
    signer.sign(tbs)
    return {"encode_s": encoded - started, "sign_s": time.perf_counter() - encoded}


async def main(home: Path, authority_id: str) -> dict[str, Any]:
    async with services_of(home) as services:
        authority = await services.authorities.authority(AuthorityId(authority_id))
        assert authority.key_id is not None
        signer = await services.keys.signer(authority.key_id)
        lists = publisher(services)
        gc.collect()
        _forget_peak()
        before, started = _memory("VmRSS"), time.perf_counter()
        published = await lists.publish(CRLScope(authority.id, authority.generation, 0))
        seconds, peak = time.perf_counter() - started, _memory("VmHWM")
        lists.close()
        return {
            "entries": published.entries,
            "octets": len(published.der),
            "seconds": seconds,
            "before_mib": before,
            "peak_mib": peak,
            **_parts(published, signer),
        }


if __name__ == "__main__":
    result = asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
    # The worker has ended with its pool, so that its memory counts among the children's; PostgreSQL runs as another user's
    # process group and is far smaller in each of its processes.
    result["worker_mib"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(json.dumps(result))
