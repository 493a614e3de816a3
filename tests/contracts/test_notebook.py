"""The walkthrough: what is committed holds no outputs, paths or sentences of CoLA; and from top to bottom it runs."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from bertie.deploy.sagemaker.trial import Trial
from bertie.errors import DeployError
from tests.deploy.aws.cloud import REGION, ROLE, Cloud
from tests.deploy.conftest import cloud, moto

__all__ = ["cloud", "moto"]

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "walkthrough.ipynb"
SECONDS = 600
"""Time of one cell; on two cores all of them take some two minutes."""

PLACES = re.compile(r"(?<![\w.~])/(home|Users|root|tmp|work|mnt|opt|var)/|[A-Z]:\\\\")
"""Paths of somebody's machine."""

LONG = 20
"""Characters of a sentence that nobody writes by chance."""


def read() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def leftovers(notebook: Any) -> list[str]:
    """Return what an execution, or an editor, leaves behind in a notebook."""
    found = []
    for cell in notebook.cells:
        if cell.get("outputs") or cell.get("execution_count") is not None:
            found.append(f"{cell.id}: outputs or a count")
        if cell.get("attachments"):
            found.append(f"{cell.id}: attachments")
        if kept := set(cell.metadata) - {"tags"}:
            found.append(f"{cell.id}: metadata {kept}")
        if place := PLACES.search(cell.source):
            found.append(f"{cell.id}: the path {place[0]}")
    return found


def problems(notebook: Any) -> list[str]:
    """Return what went wrong in an executed notebook: errors, and all that came on stderr, warnings too."""
    return [
        f"{cell.id}: {output.get('text') or output.get('evalue')}"
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if output.output_type == "error" or output.get("name") == "stderr"
    ]


def test_the_notebook_is_valid_and_every_cell_has_a_name_of_its_own() -> None:
    notebook = read()
    nbformat.validate(notebook)
    names = [cell.id for cell in notebook.cells]
    assert len(names) == len({*names})
    assert all(re.fullmatch(r"[a-z0-9-]+", name) for name in names)
    assert not any(re.fullmatch(r"[0-9a-f-]{8,}", name) for name in names), "an editor's random name does not diff"


def test_nothing_of_an_execution_is_committed() -> None:
    assert leftovers(read()) == []


def test_its_links_into_the_documentation_lead_somewhere() -> None:
    text = "".join(cell.source for cell in read().cells if cell.cell_type == "markdown")
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
    assert len(targets) > 5
    assert [target for target in targets if not (NOTEBOOK.parent / target).exists()] == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda cell: cell.outputs.append(nbformat.v4.new_output("stream", text="John saw himself.")),
        lambda cell: cell.update(execution_count=1),
        lambda cell: cell.metadata.update(collapsed=True),
        lambda cell: cell.update(source='open("/home/me/cola.zip")'),
    ],
    ids=["output", "count", "metadata", "path"],
)
def test_what_an_execution_leaves_would_be_seen(damage: Callable[[Any], Any]) -> None:
    notebook = read()
    damage(next(cell for cell in notebook.cells if cell.cell_type == "code"))
    assert len(leftovers(notebook)) == 1


def test_no_sentence_of_cola_is_committed(cola: Path) -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    lines = [line for file in cola.glob("*.tsv") for line in file.read_text(encoding="utf-8").splitlines()]
    sentences = {line.split("\t")[-1] for line in lines}
    assert len(sentences) > 9000
    assert [one for one in sentences if len(one) >= LONG and one in text] == []


def test_a_warning_and_an_error_in_a_cell_would_be_seen() -> None:
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell(
                outputs=[
                    nbformat.v4.new_output("stream", name="stdout", text="fine"),
                    nbformat.v4.new_output("stream", name="stderr", text="UserWarning: old"),
                    nbformat.v4.new_output("error", ename="ValueError", evalue="broken", traceback=[]),
                ]
            )
        ]
    )
    assert [problem.split(": ", 1)[1] for problem in problems(notebook)] == ["UserWarning: old", "broken"]


def functions(folder: Path, **constants: str) -> dict[str, Any]:
    """Return what the notebook's cell about getting the data defines, with other addresses and hashes."""
    cell = next(cell for cell in read().cells if cell.id == "get-data")
    defined: dict[str, Any] = {"os": os, "Path": Path, "WORK": folder}
    exec(compile(cell.source, "get-data", "exec"), defined)  # noqa: S102 - our own notebook
    return defined | _rebound(defined, constants)


def _rebound(defined: dict[str, Any], constants: dict[str, str]) -> dict[str, Any]:
    defined.update(constants)  # the functions look them up here
    return constants


def archive(folder: Path) -> str:
    """Write a small archive in CoLA's form; return its sha256."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("cola_public/raw/in_domain_dev.tsv", "a1\t1\t\tOne can say that.\na1\t0\t*\tCan that one say.\n")
    (folder / "cola_public_1.1.zip").write_bytes(content.getvalue())
    return hashlib.sha256(content.getvalue()).hexdigest()


def test_data_with_the_right_hash_is_read_and_damaged_data_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BERTIE_SHARED_DATA", str(tmp_path))
    found = functions(tmp_path, COLA_SHA256=archive(tmp_path))
    content, source = found["cola_archive"]()
    assert source == "a folder on this machine"
    rows = found["cola_rows"](content, "in_domain_dev")
    assert rows == [("One can say that.", "acceptable"), ("Can that one say.", "unacceptable")]

    with (tmp_path / "cola_public_1.1.zip").open("ab") as file:
        file.write(b"more")
    with pytest.raises(ValueError, match="sha256"):
        found["cola_archive"]()


def test_damaged_data_from_its_address_is_refused_and_no_network_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BERTIE_SHARED_DATA", raising=False)
    (tmp_path / "there").mkdir()
    right = archive(tmp_path / "there")
    there = (tmp_path / "there" / "cola_public_1.1.zip").as_uri()
    assert functions(tmp_path, COLA_URL=there, COLA_SHA256=right)["cola_archive"]()[1] == there
    with pytest.raises(ValueError, match="sha256"):
        functions(tmp_path, COLA_URL=there)["cola_archive"]()
    nowhere = "http://127.0.0.1:9/cola_public_1.1.zip"
    assert functions(tmp_path, COLA_URL=nowhere)["cola_archive"]() is None


def executed(folder: Path, **variables: str) -> Any:
    """Run the notebook in a folder, as a learner would but with less to learn from; return it with its outputs."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    own = {
        "BERTIE_WALKTHROUGH": "quick",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "IPYTHONDIR": str(folder / "ipython"),
    }
    notebook = read()
    client = NotebookClient(
        notebook, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute(env=kept | own | variables)
    return notebook


def processes_in(folder: Path) -> list[str]:
    """Return the command lines of the processes that run in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").resolve().is_relative_to(folder):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # it has ended, or is not ours
            continue
    return found


def said(notebook: Any, name: str) -> str:
    """Return what a cell printed or showed, as text and HTML."""
    cell = next(cell for cell in notebook.cells if cell.id == name)
    parts = [output.get("text") or output.get("data", {}).get("text/html", "") for output in cell.outputs]
    return "".join(parts)


def number(page: str, row: str) -> float:
    """Return the number beside a row's name in a table of HTML."""
    match = re.search(rf"{row}</td><td[^>]*>(-?[\d.]+)", page)
    assert match is not None, page
    return float(match[1])


@pytest.mark.slow
@pytest.mark.parametrize("data", ["samples", "cola"])
def test_it_runs_from_top_to_bottom(
    data: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if data == "cola":
        request.getfixturevalue("cola")
        from tests.conftest import COLA_DEFAULT, COLA_VARIABLE

        monkeypatch.setenv(COLA_VARIABLE, os.environ.get(COLA_VARIABLE, str(COLA_DEFAULT)))
    notebook = executed(tmp_path, BERTIE_WALKTHROUGH_DATA=data)
    assert problems(notebook) == []

    pictures = [cell for cell in notebook.cells if "picture" in cell.metadata.get("tags", ())]
    assert len(pictures) >= 8
    for cell in pictures:
        drawn = [output.data["image/svg+xml"] for output in cell.outputs if "image/svg+xml" in output.get("data", {})]
        assert len(drawn) == 1, cell.id
        assert drawn[0].count("<path") > 10, cell.id
    for name in ("train-run", "optimize-model"):
        bar = re.search(r'<progress value="(\d+)" max="(\d+)"', said(notebook, name))
        assert bar is not None, name
        assert bar[1] == bar[2], name

    source = {"samples": "support messages, from the Bertie package", "cola": "CoLA, from a folder on this machine"}
    assert source[data] in said(notebook, "load-data")
    bert, guess = said(notebook, "bert-score"), said(notebook, "score")
    assert number(bert, "accuracy") > 0.3
    assert number(guess, "MCC") == 0
    assert "Report of run" in said(notebook, "show-report")
    assert "the same labels as without the server: True" in said(notebook, "ask-many")
    assert "the same probabilities: True" in said(notebook, "pack")
    assert "the same labels: True" in said(notebook, "import-model")
    assert "CreateTrainingJob" in said(notebook, "sagemaker-train")
    requests = said(notebook, "sagemaker-deploy")
    assert requests.index("CreateModel") < requests.index("CreateEndpointConfig") < requests.index("CreateEndpoint<")
    assert "Nothing was sent" in requests
    assert "server stopped: True" in said(notebook, "clean-up")
    assert processes_in(tmp_path) == []
    assert (tmp_path / "walkthrough" / "run" / "report.html").is_file()


def deploy_cell(run: Path) -> dict[str, Any]:
    """Run the cell that deploys as a reader does who wants it and has credentials; return what it knows then."""
    from bertie import sagemaker

    shown: list[Any] = []
    known: dict[str, Any] = {
        "sagemaker": sagemaker,
        "RUN": run,
        "DEPLOY": True,
        "REGION": REGION,
        "ACCOUNT": {"role": ROLE, "region": REGION},
        "EXAMPLES": ["where is my parcel"],
        "table": lambda _, *rows: shown.extend(rows),
        "shown": shown,
    }
    cell = next(cell for cell in read().cells if cell.id == "sagemaker-deploy")
    exec(compile(cell.source, cell.id, "exec"), known)  # noqa: S102 - our own notebook
    return known


@pytest.mark.slow
def test_with_credentials_and_the_word_it_deploys_and_nothing_is_left(cloud: Cloud, tiny_run: Path) -> None:
    answer = {"label": "delivery", "score": 0.9, "scores": {"delivery": 0.9, "praise": 0.1}}
    label = Trial.of(tiny_run).label
    cloud.answers(json.dumps([{**answer, "label": label}]), json.dumps([answer]))
    assert deploy_cell(tiny_run)["shown"] == [("where is my parcel", "delivery", 0.9)]
    assert "CreateEndpoint" in cloud.operations()
    assert cloud.nothing_left()


@pytest.mark.slow
def test_an_endpoint_that_fails_is_removed_too(cloud: Cloud, tiny_run: Path) -> None:
    cloud.states(endpoint=[{"EndpointStatus": "Failed", "FailureReason": "no machines"}])
    with pytest.raises(DeployError, match="no machines"):
        deploy_cell(tiny_run)
    assert "CreateEndpoint" in cloud.operations()
    assert cloud.nothing_left()
