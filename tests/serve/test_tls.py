"""HTTPS by certificate files, made here with openssl, for clients that trust nothing else."""

from __future__ import annotations

import logging
import shutil
import socket
import ssl
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
import tritonclient.grpc as triton

from bertie.errors import UsageError
from bertie.serve.tls import Certificate, certificate
from tests.conftest import Bertie
from tests.serve.process import running

if shutil.which("openssl") is None:
    pytest.skip("openssl makes the certificates", allow_module_level=True)


class Pair(NamedTuple):
    cert: Path
    key: Path


def make(folder: Path, *key_options: str) -> Pair:
    """Write a certificate for localhost and 127.0.0.1 that signs itself, and its key."""
    folder.mkdir()
    pair = Pair(folder / "cert.pem", folder / "key.pem")
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-days", "2"]
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", *subject]
    files = ["-keyout", str(pair.key), "-out", str(pair.cert)]
    subprocess.run([*command, *files, *(key_options or ("-nodes",))], check=True, capture_output=True)
    return pair


def trusting(cert: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(cert))


def shows(port: int, cert: Path) -> bool:
    """Return whether the server shows this certificate; no other one passes."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        try:
            trusting(cert).wrap_socket(plain, server_hostname="127.0.0.1").close()
        except ssl.SSLCertVerificationError:
            return False
    return True


def wait_until_it_shows(port: int, cert: Path) -> None:
    deadline = time.monotonic() + 10
    while not shows(port, cert):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
def test_https_and_its_certificate_is_replaced_without_a_restart(tiny_bundle: Path, tmp_path: Path) -> None:
    one, two = make(tmp_path / "one"), make(tmp_path / "two")
    live = Pair(Path(shutil.copy(one.cert, tmp_path)), Path(shutil.copy(one.key, tmp_path)))
    flags = ("--tls-cert", live.cert, "--tls-key", live.key, "--grpc-port", "0")
    with running(tiny_bundle, tmp_path, *flags) as server, httpx.Client(verify=trusting(one.cert)) as client:
        assert server.url == f"https://127.0.0.1:{server.port}"
        assert client.post(f"{server.url}/invocations", json="i love it").status_code == 200
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{server.port}/ping")
        assert not shows(server.port, two.cert)
        over_grpc(server.told["grpc_port"], one.cert)

        # One after the other, as people do: in between the pair does not fit, and the old one stays.
        shutil.copy(two.cert, live.cert)
        time.sleep(2.5)
        assert shows(server.port, one.cert)
        shutil.copy(two.key, live.key)
        wait_until_it_shows(server.port, two.cert)
        assert not shows(server.port, one.cert)
        over_grpc(server.told["grpc_port"], two.cert)
        # A connection from before lives on.
        assert client.post(f"{server.url}/invocations", json="i love it").status_code == 200
    said = server.said()
    assert "the certificate stays as it was" in said
    assert "read the certificate again" in said
    assert "PRIVATE KEY" not in said


def over_grpc(port: int, cert: Path) -> None:
    with triton.InferenceServerClient(f"localhost:{port}", ssl=True, root_certificates=str(cert)) as client:
        assert client.is_server_ready()


@pytest.mark.slow
def test_old_versions_of_tls_are_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    pair = make(tmp_path / "one")
    with running(tiny_bundle, tmp_path, "--quiet", "--tls-cert", pair.cert, "--tls-key", pair.key) as server:
        for version, accepted in (("-tls1_3", True), ("-tls1_2", True), ("-tls1_1", False), ("-tls1", False)):
            # The lowest security level, so that it is the server that refuses.
            command = ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", version]
            done = subprocess.run(
                [*command, "-cipher", "ALL:@SECLEVEL=0"], input="", capture_output=True, text=True, check=False
            )
            assert ("BEGIN CERTIFICATE" in done.stdout) is accepted, (version, done.stderr[-500:])
    assert server.said() == ""


def test_files_that_are_no_pair_are_named(tmp_path: Path) -> None:
    one, two = make(tmp_path / "one"), make(tmp_path / "two")
    locked = make(tmp_path / "locked", "-passout", "pass:secret")
    text = tmp_path / "text.pem"
    text.write_text("no certificate")
    assert certificate(None, None) is None
    assert certificate(*one) is not None
    for cert, key, words in (
        (one.cert, two.key, "no certificate with its key: key values mismatch"),
        (tmp_path / "none.pem", one.key, "there is no file .*none.pem"),
        (one.cert, tmp_path / "none.pem", "there is no file .*none.pem"),
        (text, one.key, "no certificate with its key"),
        (one.cert, text, "no certificate with its key"),
        (locked.cert, locked.key, "has a passphrase"),
        (one.cert, None, "a certificate needs its key"),
        (None, one.key, "a certificate needs its key"),
    ):
        with pytest.raises(UsageError, match=words):
            certificate(cert, key)


def test_a_pair_that_is_broken_later_leaves_the_old_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one, two = make(tmp_path / "one"), make(tmp_path / "two")
    held = Certificate(*one)
    before = held.pair
    for damage in (one.key.unlink, lambda: one.key.write_text("x"), lambda: one.cert.write_text("")):
        damage()
        with caplog.at_level(logging.ERROR, "bertie"):
            held.refresh()
            held.refresh()
        assert held.pair == before
    assert len(caplog.records) == 3, "once for each change"
    shutil.copy(two.cert, one.cert)
    shutil.copy(two.key, one.key)
    held.refresh()
    assert held.pair == (two.key.read_bytes(), two.cert.read_bytes())


def test_a_wrong_pair_stops_before_anything_loads(tmp_path: Path, bertie: Bertie) -> None:
    pair = make(tmp_path / "one")
    done = bertie("serve", tmp_path / "no-model", "--tls-cert", pair.cert, "--port", "0")
    assert done.returncode == 2
    assert "a certificate needs its key" in done.stderr
