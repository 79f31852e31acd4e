"""The status address as OpenSSL sees it: a real server on a loopback port, `openssl ocsp`, `crl` and `verify -crl_check`."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from status_world import PASSPHRASES, WEB, StatusWorld, a_status_world

from spork.api.crl.publication import ensure_crls, publisher
from spork.api.ocsp.signing import renew_responders
from spork.api.status import application
from spork.errors import SporkError
from spork.issuance.crl_schedule import CRLKind, CRLScope
from spork.issuance.ports import Recorded
from spork.issuance.revoke import Reason
from spork.store.database import Database
from spork.x509.der import CRLTBS, sign

pytestmark = [pytest.mark.protocol, pytest.mark.store]


@dataclass
class Served:
    """A world whose status address is really listening."""

    world: StatusWorld
    url: str
    folder: Path
    openssl: str

    async def run(self, *arguments: str | Path) -> str:
        """Runs openssl; gives its standard output and error together."""
        process = await asyncio.create_subprocess_exec(
            self.openssl, *map(str, arguments), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        output, _ = await asyncio.wait_for(process.communicate(), 30)
        return output.decode()

    def file(self, recorded: Recorded) -> Path:
        path = self.folder / f"{recorded.serial:x}.pem"
        path.write_bytes(x509.load_der_x509_certificate(recorded.der).public_bytes(Encoding.PEM))
        return path

    async def ocsp(self, recorded: Recorded, *more: str) -> str:
        root, web = await self.world.write_chain(self.folder)
        return await self.run(
            "ocsp", "-issuer", web, "-cert", self.file(recorded), "-url", f"{self.url}/ocsp", "-CAfile", root,
            "-verify_other", web, *more,
        )  # fmt: skip

    async def ocsp_says(self, recorded: Recorded, words: str, *more: str) -> str:
        """Asks until the answer has these words: a change of status may take its second to be seen, or longer."""
        for _ in range(40):
            if words in (output := await self.ocsp(recorded, *more)):
                return output
            await asyncio.sleep(0.25)
        raise AssertionError(f"no {words!r} in {output}")

    async def crl(self, path: str) -> Path:
        """Fetches a list over HTTP and writes it as PEM."""
        async with httpx.AsyncClient() as client:
            response = await client.get(f"{self.url}{path}")
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/pkix-crl"
        file = self.folder / (path.replace("/", "_") + ".pem")
        file.write_bytes(x509.load_der_x509_crl(response.content).public_bytes(Encoding.PEM))
        return file

    async def verify(self, recorded: Recorded, *more: str | Path) -> str:
        root, web = await self.world.write_chain(self.folder)
        lists = [await self.crl("/crl/status-root-ca/1.crl"), await self.crl("/crl/web/1.crl")]
        arguments: list[str | Path] = ["verify", "-CAfile", root, "-untrusted", web, "-crl_check_all"]
        for file in lists:
            arguments += ["-CRLfile", file]
        return await self.run(*arguments, *more, self.file(recorded))


@pytest.fixture
async def served(
    database: Database, tmp_path: Path, system_program: Callable[[str], str], request: pytest.FixtureRequest
) -> AsyncIterator[Served]:
    """The algorithm and further settings of the CA come from the test's parameter."""
    algorithm, web = getattr(request, "param", ("ecdsa-p256", ""))
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    async with a_status_world(database, status_url=url, algorithm=algorithm, web=web) as world:
        await ensure_crls(world.services)
        await renew_responders(world.services)
        app = application(world.services)
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="none"))
        task = asyncio.create_task(server.serve([bound]))
        yield Served(world, url, tmp_path, system_program("openssl"))
        server.should_exit = True
        await task


@pytest.mark.parametrize("served", [("ecdsa-p256", ""), ("rsa-2048", ""), ("ed25519", "")], indirect=True, ids=str)
async def test_openssl_sees_good_then_revoked(served: Served) -> None:
    issued = await served.world.issue()
    good = await served.ocsp(issued)
    await served.world.revoke(issued, Reason.keyCompromise)
    revoked = await served.ocsp_says(issued, ": revoked", "-no_nonce")

    assert "Response verify OK" in good
    assert ": good" in good
    # OpenSSL sent a nonce and compared it.
    assert "WARNING" not in good
    assert "Response verify OK" in revoked
    assert "Reason: keyCompromise" in revoked


async def test_openssl_asks_with_sha256_and_for_several(served: Served) -> None:
    first, second = await served.world.issue(), await served.world.issue()
    await served.world.revoke(second, Reason.superseded)
    output = await served.ocsp(first, "-sha256", "-cert", str(served.file(second)), "-serial", "0x4242")

    assert "Response verify OK" in output
    assert [word in output for word in (": good", ": revoked", "0x4242: unknown")] == [True, True, True]


async def test_openssl_sees_hold_and_release(served: Served) -> None:
    issued = await served.world.issue()
    await served.world.revoke(issued, Reason.certificateHold)
    held = await served.ocsp_says(issued, ": revoked")
    await served.world.revoke(issued, Reason.removeFromCRL)
    await served.ocsp_says(issued, ": good")

    assert "Reason: certificateHold" in held


async def test_an_answer_by_get_is_the_same_to_openssl(served: Served) -> None:
    issued = await served.world.issue()
    root, web = await served.world.write_chain(served.folder)
    request, answer = served.folder / "request.der", served.folder / "answer.der"
    await served.run("ocsp", "-issuer", web, "-cert", served.file(issued), "-no_nonce", "-reqout", request)
    encoded = (await served.run("base64", "-A", "-in", request)).strip()
    async with httpx.AsyncClient() as client:
        response = await client.get(f"{served.url}/ocsp/web/{encoded}")
    answer.write_bytes(response.content)

    output = await served.run(
        "ocsp", "-respin", answer, "-issuer", web, "-cert", served.file(issued), "-CAfile", root, "-verify_other", web
    )
    assert "Response verify OK" in output
    assert ": good" in output


@pytest.mark.parametrize("served", [("ecdsa-p256", ""), ("rsa-3072", "")], indirect=True, ids=str)
async def test_openssl_verifies_with_the_published_lists(served: Served) -> None:
    kept, revoked = await served.world.issue(), await served.world.issue()
    assert ": OK" in await served.verify(revoked)

    await served.world.revoke(revoked, Reason.keyCompromise)
    lists = publisher(served.world.services)
    await lists.publish(CRLScope(WEB, 1, 0))
    lists.close()
    for _ in range(40):
        if "certificate revoked" in (seen := await served.verify(revoked)):
            break
        await asyncio.sleep(0.25)

    assert "certificate revoked" in seen
    assert ": OK" in await served.verify(kept)
    text = await served.run("crl", "-in", await served.crl("/crl/web/1.crl"), "-noout", "-text")
    assert f"{revoked.serial:X}" in text.upper()
    assert "Key Compromise" in text


@pytest.mark.parametrize("served", [("ecdsa-p256", 'crl.delta_interval = "1h"')], indirect=True, ids=["deltas"])
async def test_openssl_applies_a_delta(served: Served) -> None:
    kept, revoked = await served.world.issue(), await served.world.issue()
    await served.world.revoke(revoked, Reason.superseded)
    lists = publisher(served.world.services)
    await lists.publish(CRLScope(WEB, 1, 0), CRLKind.DELTA)
    lists.close()
    delta = await served.crl("/crl/web/1/delta.crl")

    assert ": OK" in await served.verify(revoked)
    assert "certificate revoked" in await served.verify(revoked, "-extended_crl", "-use_deltas", "-CRLfile", delta)
    assert ": OK" in await served.verify(kept, "-extended_crl", "-use_deltas", "-CRLfile", delta)


@pytest.mark.parametrize("served", [("ecdsa-p256", "crl_shards = 3")], indirect=True, ids=["shards"])
async def test_openssl_verifies_with_the_shard_that_the_certificate_names(served: Served) -> None:
    root, web = await served.world.write_chain(served.folder)
    issued = await served.world.issue()
    await served.world.revoke(issued)
    certificate = x509.load_der_x509_certificate(issued.der)
    (point,) = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    assert point.full_name is not None
    path = str(point.full_name[0].value).removeprefix(served.url)
    shard = int(path.rsplit("/", 1)[1].removesuffix(".crl"))
    lists = publisher(served.world.services)
    await lists.publish(CRLScope(WEB, 1, shard))
    lists.close()

    arguments = ["verify", "-CAfile", root, "-untrusted", web, "-crl_check", "-CRLfile", await served.crl(path)]
    assert "certificate revoked" in await served.run(*arguments, served.file(issued))
    other = await served.crl(f"/crl/web/1/{shard % 3 + 1}.crl")
    arguments[-1] = other
    assert "different CRL scope" in await served.run(*arguments, served.file(issued))


@pytest.mark.parametrize(
    "served", [("ecdsa-p256", 'crl.delta_interval = "1h"'), ("ml-dsa-65", "")], indirect=True, ids=["ecdsa", "ml-dsa"]
)
async def test_pkilint_finds_nothing_in_lists_and_answers(served: Served) -> None:
    issued, other = await served.world.issue(), await served.world.issue()
    await served.world.revoke(issued, Reason.keyCompromise)
    lists = publisher(served.world.services)
    await lists.publish(CRLScope(WEB, 1, 0))
    try:
        await lists.publish(CRLScope(WEB, 1, 0), CRLKind.DELTA)
    except SporkError as error:
        raise AssertionError(error) from error
    lists.close()
    files = [await served.crl("/crl/status-root-ca/1.crl"), await served.crl("/crl/web/1.crl")]
    files.append(await served.crl("/crl/web/1/delta.crl"))
    for file in files:
        assert await _lint("lint_crl", "lint", "-p", "PKIX", "-t", "CRL", file) == ""
    for recorded in (issued, other):
        async with httpx.AsyncClient() as client:
            answer = await client.post(f"{served.url}/ocsp", content=await served.world.request(recorded.serial))
        path = served.folder / "answer.der"
        path.write_bytes(answer.content)
        assert await _lint("lint_ocsp_response", "lint", path) == ""


async def _spork(served: Served, *arguments: str | Path) -> tuple[int, str]:
    """Runs our own command line on the host of the CA; gives its exit code and its whole output."""
    environment = {
        "PATH": os.environ["PATH"],
        "SPORK_DATABASE_URL": served.world.services.database.url,
        "SPORK_HOME": str(served.folder),
    }
    for name, passphrases in PASSPHRASES.items():
        file = served.folder / ("passphrase" if name == "online" else "sealed-passphrase")
        file.touch(mode=0o600)
        file.write_bytes(passphrases.current + b"\n")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "spork", *map(str, arguments), env=environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, output.decode()


@pytest.mark.parametrize("served", [("ecdsa-p256", ""), ("ml-dsa-65", "")], indirect=True, ids=str)
async def test_our_own_client_asks_and_checks(served: Served) -> None:
    good, revoked = await served.world.issue(), await served.world.issue()
    await served.world.revoke(revoked, Reason.superseded)
    _, web = await served.world.write_chain(served.folder)
    files = [served.file(good), served.file(revoked)]

    one = await _spork(served, "ocsp", "query", "--issuer", web, "--cert", files[0], "-o", "json")
    by_get = await _spork(
        served, "ocsp", "query", "--issuer", web, "--cert", files[0], "--get", "--no-nonce", "--hash", "sha256"
    )
    both = await _spork(served, "ocsp", "query", *files, "--issuer", web)
    unknown = await _spork(served, "ocsp", "query", "--issuer", web, "--serial", "4242", "--url", f"{served.url}/ocsp")
    foreign = await _spork(
        served, "ocsp", "query", "--issuer", files[0], "--serial", "42", "--url", f"{served.url}/ocsp"
    )

    assert one[0] == 0
    assert '"status": "good"' in one[1]
    assert by_get[0] == 0
    assert "good" in by_get[1]
    assert both[0] == 3
    assert "revoked" in both[1]
    assert "superseded" in both[1]
    assert (unknown[0], "unknown" in unknown[1]) == (0, True)
    assert (foreign[0], "unauthorized" in foreign[1]) == (3, True)


async def test_lists_are_published_and_shown_from_the_command_line(served: Served) -> None:
    revoked = await served.world.issue()
    await served.world.revoke(revoked, Reason.superseded)
    sealed = await _spork(served, "crl", "publish", "--local", "--ca", "status-root-ca")
    online = await _spork(served, "crl", "publish", "--local", "--ca", "web")
    shown = await _spork(served, "crl", "show", f"{served.url}/crl/web/1.crl")
    nothing = await _spork(served, "crl", "show", f"{served.url}/crl/no/1.crl")

    assert sealed == (0, "status-root-ca/1: full list number 2 with 0 entries\n")
    assert online == (0, "web/1: full list number 2 with 1 entries\n")
    assert shown[0] == 0
    assert f"{revoked.serial:X}" in shown[1]
    assert "superseded" in shown[1]
    assert (nothing[0], "answers 404" in nothing[1]) == (4, True)


async def test_a_list_is_written_out_signed_elsewhere_and_imported(served: Served) -> None:
    await served.world.revoke(await served.world.issue(), Reason.superseded)
    tbs, signed = served.folder / "list.tbs", served.folder / "list.crl"
    written = await _spork(served, "crl", "tbs", "--ca", "web", "--output", tbs)
    authority = await served.world.services.authorities.authority(WEB)
    assert authority.key_id is not None
    signer = await served.world.services.keys.signer(authority.key_id)
    signed.write_bytes(sign(CRLTBS(tbs.read_bytes()), signer))
    damaged = served.folder / "damaged.crl"
    damaged.write_bytes(signed.read_bytes()[:-4] + b"\x00" * 4)

    refused = await _spork(served, "crl", "import", damaged)
    imported = await _spork(served, "crl", "import", signed)
    again = await _spork(served, "crl", "import", signed)

    assert written[0] == 0
    assert refused[0] in (1, 3)
    assert imported == (0, "web/1: list number 2 with 1 entries is published.\n")
    assert again[0] == 5


async def test_a_bare_signature_that_openssl_made_becomes_a_list(served: Served) -> None:
    tbs, signature = served.folder / "list.tbs", served.folder / "list.sig"
    assert (await _spork(served, "crl", "tbs", "--ca", "web", "--output", tbs))[0] == 0
    authority = await served.world.services.authorities.authority(WEB)
    assert authority.key_id is not None
    signer = await served.world.services.keys.signer(authority.key_id)
    signature.write_bytes(signer.sign(CRLTBS(tbs.read_bytes())))
    nonsense = served.folder / "nonsense.tbs"
    nonsense.write_bytes(b"\x30\x00")

    refused = await _spork(served, "crl", "import", "--tbs", nonsense, signature)
    imported = await _spork(served, "crl", "import", "--tbs", tbs, signature)

    assert refused[0] == 1
    assert imported == (0, "web/1: list number 2 with 0 entries is published.\n")


async def _lint(program: str, *arguments: str | Path) -> str:
    """What a linter of pkilint reports, apart from notices."""
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / program), *map(str, arguments), "-s", "WARNING",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, output.decode()
    return output.decode().strip()
