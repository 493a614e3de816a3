from __future__ import annotations

import contextlib
import csv
import io
import json
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect
from tokenizers import Tokenizer

from bertie.config import ServeSettings
from bertie.scores import Decision
from bertie.serve.app import make_app
from bertie.serve.endpoint import Endpoint
from tests.browser import MUST_RUN, Moody, Watched, barriers, chromium, running
from tests.serve.counting import counting

pytestmark = pytest.mark.slow

Open = Callable[..., AbstractContextManager[Page]]
Serve = Callable[..., AbstractContextManager[tuple[str, Moody]]]

EVIL = "<img src=x onerror=\"document.title='taken'\"> parcel <script>document.title='taken'</script>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as one:
        yield one


@pytest.fixture
def opened(browser: Browser) -> Open:
    """Return what opens a server's page, and in the end sees that it neither complained nor asked elsewhere."""

    @contextlib.contextmanager
    def open_page(address: str, *, path: str = "/", complaints: tuple[str, ...] = (), **how: Any) -> Iterator[Page]:
        context = browser.new_context(**({"viewport": {"width": 1120, "height": 800}} | how))
        context.set_default_timeout(20_000)
        page, watched = context.new_page(), Watched(address)
        watched.watch(page)
        page.goto(f"{address}{path}")
        yield page
        context.close()
        assert watched.outside == []
        assert [said for said in watched.said if not any(known in said for known in complaints)] == []

    return open_page


@pytest.fixture
def counted(tiny_tokenizer: Tokenizer) -> Serve:
    """Return what serves a model that counts words, as `counting` makes it."""

    @contextlib.contextmanager
    def serve(decision: Decision | None = None, **how: Any) -> Iterator[tuple[str, Moody]]:
        endpoint = Endpoint(ServeSettings())
        endpoint.open(counting(tiny_tokenizer, *([decision] if decision else []), **how))
        moody = Moody(make_app(endpoint))
        with running(moody) as address:
            yield address, moody
        endpoint.close()

    return serve


def answer(address: str, body: Any) -> Any:
    with urllib.request.urlopen(f"{address}/invocations", json.dumps(body).encode()) as response:
        return json.load(response)


def classify(page: Page, text: str) -> None:
    page.get_by_label("Text", exact=True).fill(text)
    page.get_by_role("button", name="Classify", exact=True).click()
    expect(page.locator("#words .spoken").first).to_have_text(text)


def give(page: Page, name: str, content: str) -> None:
    page.get_by_role("tab", name="Many texts").click()
    page.get_by_label("CSV file").set_input_files({"name": name, "mimeType": "text/csv", "buffer": content.encode()})


def results(page: Page) -> str:
    """Return the CSV that the page gives for download, once it is done."""
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the results as CSV").click()
    return Path(download.value.path()).read_text(encoding="utf-8")


def rows_of(text: str, delimiter: str = ",") -> list[list[str]]:
    assert text.startswith("\ufeff")
    return list(csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), delimiter=delimiter, strict=True))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_text_gets_labels_words_and_times_from_a_real_server(served: str, opened: Open, scheme: str) -> None:
    text = "i love it"
    with opened(served, color_scheme=scheme, reduced_motion="reduce") as page:
        expect(page.locator("#state")).to_have_text("Ready")
        classify(page, text)
        expected = answer(served, text)
        expect(page.locator("#verdict")).to_contain_text(expected["label"])
        rows = page.locator("#bars button")
        assert rows.count() == len(expected["scores"])
        for place, (label, score) in enumerate(sorted(expected["scores"].items(), key=lambda pair: -pair[1])):
            row = rows.nth(place)
            expect(row.locator(".name")).to_contain_text(label)
            expect(row.locator(".share")).to_have_text(f"{100 * score:.1f}%")
            wide = "row => row.querySelector('.fill').offsetWidth / row.querySelector('.track').offsetWidth"
            assert row.evaluate(wide) == pytest.approx(score, abs=0.02)
        assert "love" in page.locator("#words .spoken mark").all_text_contents()
        expect(page.locator("#time dt")).to_have_text(
            ["from click to answer", "cut into tokens", "waited", "model", "network and browser"]
        )
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
        assert (sum(ground) < 150) == (scheme == "dark")
        page.get_by_role("tab", name="Model").click()
        expect(page.locator("#model")).to_contain_text("180 texts")
        expect(page.locator("#model")).to_contain_text("Accuracy")
        page.get_by_role("tab", name="Server").click()
        expect(page.locator("#server")).to_contain_text("texts answered since the start")
        expect(page.locator("#server .tiles b").first).to_have_text("2")


def test_a_file_comes_back_with_labels(served: str, opened: Open) -> None:
    texts = [
        "where is my parcel",
        'i "love", really\nlove it',
        "  ",
        *(f"the order has come {n}" for n in range(70)),
        EVIL,
    ]
    target = io.StringIO()
    writer = csv.writer(target, delimiter=";")
    writer.writerow(["id", "text", "label"])
    writer.writerows([str(number), text, "mine; yours"] for number, text in enumerate(texts))
    writer.writerow(["short"])
    with opened(served) as page:
        give(page, "messages.csv", target.getvalue())
        expect(page.get_by_label("Column of the texts")).to_have_value("1")
        page.get_by_role("button", name=f"Classify {len(texts) + 1} texts").click()
        expect(page.locator("#many-answer")).to_contain_text("2 rows have no text")
        head, *rows = rows_of(results(page), ";")
        assert page.title() == "Bertie"
    assert head == ["id", "text", "label", "predicted_label", "score"]
    assert [row[:3] for row in rows[:-1]] == [[str(n), text, "mine; yours"] for n, text in enumerate(texts)]
    assert rows[-1] == ["short", "", "", "", ""]
    assert rows.pop(2)[3:] == ["", ""]
    expected = answer(served, [row[1] for row in rows[:-1]])
    assert [row[3] for row in rows[:-1]] == [one["label"] for one in expected]
    assert [float(row[4]) for row in rows[:-1]] == pytest.approx([one["score"] for one in expected], abs=1e-5)


def test_lines_that_are_pasted(counted: Serve, opened: Open) -> None:
    with counted() as (address, moody), opened(address) as page:
        page.get_by_role("tab", name="Many texts").click()
        page.get_by_role("button", name="Use these lines").click()
        expect(page.get_by_role("alert").filter(has_text="no text")).to_be_visible()
        page.get_by_label("Paste texts").fill("text\nmy parcel, please\n\ni love it\n\n")
        page.get_by_role("button", name="Use these lines").click()
        page.get_by_role("button", name="Classify 4 texts").click()
        rows = rows_of(results(page))
    assert [row[:2] for row in rows] == [
        ["text", "label"],
        ["text", "delivery"],
        ["my parcel, please", "delivery"],
        ["", ""],
        ["i love it", "praise"],
    ]
    assert moody.asked == [3]


def test_a_busy_server_is_waited_for_and_chunks_are_small(counted: Serve, opened: Open) -> None:
    texts = [f"{('parcel', 'love', 'invoice')[n % 3]} {n}" for n in range(100)]
    with counted() as (address, moody), opened(address, complaints=("429",)) as page:
        moody.busy = 2
        give(page, "a.csv", "\n".join(["text", *texts]))
        page.get_by_role("button", name="Classify 100 texts").click()
        expect(page.get_by_text("The server is busy")).to_be_visible()
        rows = rows_of(results(page))[1:]
    assert [row[0] for row in rows] == texts
    assert [row[1] for row in rows] == [("delivery", "praise", "billing")[n % 3] for n in range(100)]
    assert moody.asked == [32, 32, 32, 32, 32, 4]


def test_a_text_that_is_refused_does_not_cost_the_others(counted: Serve, opened: Open) -> None:
    with counted() as (address, moody), opened(address, complaints=("422",)) as page:
        moody.poison = "venom"
        give(page, "a.csv", "text\nlove\nvenom\nparcel\n")
        page.get_by_role("button", name="Classify 3 texts").click()
        expect(page.locator("#many-answer")).to_contain_text("refused 1 text")
        head, *rows = rows_of(results(page))
    assert head == ["text", "label", "score", "problem"]
    assert [(row[1], row[3]) for row in rows] == [("praise", ""), ("", "that is poison."), ("delivery", "")]


def test_stopping_keeps_what_is_there(counted: Serve, opened: Open) -> None:
    with counted(seconds=0.1) as (address, _), opened(address) as page:
        give(page, "a.csv", "text\n" + "love\n" * 400)
        page.get_by_role("button", name="Classify 400 texts").click()
        expect(page.get_by_text("32 of 400")).to_be_visible()
        page.get_by_role("button", name="Stop").click()
        expect(page.locator("#many-answer")).to_contain_text("Not finished")
        rows = rows_of(results(page))
    assert len(rows) == 401
    assert rows[1][1] == "praise"
    assert rows[-1] == ["love", "", ""]


def test_a_server_that_wants_a_key(counted: Serve, opened: Open) -> None:
    with counted() as (address, moody):
        moody.key = "open sesame"
        with opened(address, complaints=("401",)) as page:
            dialog = page.get_by_role("dialog")
            expect(dialog).to_contain_text("asks for a key")
            page.get_by_label("API key").fill("wrong")
            page.get_by_label("API key").press("Enter")
            expect(dialog).to_contain_text("not accepted")
            page.get_by_label("API key").fill(moody.key)
            page.get_by_role("button", name="Use it").click()
            expect(dialog).to_be_hidden()
            classify(page, "my parcel")
            expect(page.locator("#verdict")).to_contain_text("delivery")
            assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
            page.reload()
            expect(page.get_by_role("dialog")).to_be_visible()
            page.get_by_role("button", name="Cancel").click()
            expect(page.locator("#state")).to_have_text("Needs a key")
            # Who needs an answer is asked again, and then all is there.
            page.get_by_label("Text", exact=True).fill("my parcel")
            page.get_by_role("button", name="Classify", exact=True).click()
            page.get_by_label("API key").fill(moody.key)
            page.get_by_role("button", name="Use it").click()
            expect(page.locator("#verdict")).to_contain_text("delivery")
            expect(page.locator("#state")).to_have_text("Ready")
            expect(page.locator("#about")).to_contain_text("one of 3 labels: delivery, praise, billing")


def test_a_server_that_has_gone(counted: Serve, opened: Open) -> None:
    with counted() as (address, _), opened(address, complaints=("ERR_",)) as page:
        expect(page.locator("#state")).to_have_text("Ready")
        page.route("**/invocations", lambda route: route.abort("connectionrefused"))
        page.get_by_label("Text", exact=True).fill("my parcel")
        page.get_by_role("button", name="Classify", exact=True).click()
        expect(page.get_by_role("alert").filter(has_text="does not answer")).to_be_visible()
        expect(page.locator("#state")).to_have_text("Not reachable")
        page.unroute("**/invocations")
        classify(page, "my parcel")
        expect(page.locator("#state")).to_have_text("Ready")


def test_texts_never_become_markup(counted: Serve, opened: Open) -> None:
    with counted() as (address, _), opened(address, complaints=("requires 'TrustedHTML'",)) as page:
        classify(page, EVIL)
        expect(page.locator("#verdict")).to_contain_text("delivery")
        assert page.locator("main img, main script").count() == 0
        give(page, "<b>.csv", f'text\n"{EVIL.replace(chr(34), chr(34) * 2)}"\n')
        page.get_by_role("button", name="Classify 1 text").click()
        expect(page.locator("#many-answer table")).to_contain_text("<img src=x")
        assert page.title() == "Bertie"
        # The policy is what stops it, should a line of the page ever try.
        with pytest.raises(Exception, match="TrustedHTML"):
            page.evaluate("document.body.innerHTML = '<p>x</p>'")


def test_several_labels_and_a_label_that_is_asked_for(counted: Serve, opened: Open) -> None:
    decision = Decision(("delivery", "praise", "billing"), "multi-label", thresholds=(0.5, 0.5, 0.9))
    with counted(decision) as (address, _), opened(address) as page:
        classify(page, "love that parcel of 🙂")
        assert sorted(page.locator("#verdict .chip").all_text_contents()) == ["delivery", "praise"]
        assert page.locator("#bars .chosen").count() == 2
        assert page.locator("#bars .threshold").count() == 3
        page.get_by_role("button", name="praise").click()
        expect(page.locator("#words .legend")).to_contain_text("speaks for praise")
        assert page.locator("#words .spoken mark").all_text_contents() == ["love"]
        expect(page.get_by_role("button", name="praise")).to_have_attribute("aria-pressed", "true")
        classify(page, "nothing of that")
        expect(page.locator("#verdict")).to_have_text("No label")


def test_a_long_text_is_explained_by_groups_and_up_to_where_it_is_read(counted: Serve, opened: Open) -> None:
    text = "🙂 is it where is it"
    words = [
        {"start": 0, "end": 4, "text": text[:4], "weight": 0.5},
        {"start": 5, "end": 8, "text": "it ", "weight": -0.1},
    ]
    found = {"label": "delivery", "score": 0.8, "words": words, "read": 13}
    with counted() as (address, _), opened(address) as page:
        page.route("**/explain", lambda route: route.fulfill(json=found))
        classify(page, text)
        assert page.locator("#words .spoken mark").all_text_contents() == ["🙂 is", "it "]
        assert page.locator("#words .spoken mark.against").all_text_contents() == ["it "]
        expect(page.locator("#words .unread")).to_have_text(text[13:])
        expect(page.locator("#words")).to_contain_text("left out together")
        expect(page.locator("#words")).to_contain_text("longer than the model reads")
        assert page.locator("#words tbody tr").all_text_contents() == ["🙂 is30.0%−50.0", "it 90.0%+10.0"]


def test_pairs(counted: Serve, opened: Open) -> None:
    with counted(pairs=True) as (address, _), opened(address) as page:
        expect(page.get_by_label("Second text")).to_be_visible()
        page.get_by_label("Text", exact=True).fill("is it")
        page.get_by_role("button", name="Classify", exact=True).click()
        expect(page.get_by_label("Second text")).to_be_focused()
        page.get_by_label("Second text").fill("my parcel")
        page.get_by_label("Second text").press("Control+Enter")
        expect(page.locator("#verdict")).to_contain_text("delivery")
        expect(page.locator("#words .spoken")).to_have_text(["is it", "my parcel"])
        assert page.locator("#words .spoken mark").all_text_contents() == ["parcel"]
        give(page, "a.tsv", "premise\thypothesis\nis it\ti love it\n")
        expect(page.get_by_label("Column of the second texts")).to_have_value("1")
        page.get_by_role("button", name="Classify 1 text").click()
        assert rows_of(results(page), "\t")[1][:3] == ["is it", "i love it", "praise"]


def test_all_can_be_done_from_the_keyboard(counted: Serve, opened: Open) -> None:
    with counted() as (address, _), opened(address) as page:
        focused = "document.activeElement.id || document.activeElement.textContent"
        seen = []
        for _ in range(4):
            page.keyboard.press("Tab")
            seen.append(page.evaluate(focused))
        assert seen == ["Skip to the content", "tab-one", "text", "classify"]
        page.keyboard.press("Shift+Tab")
        page.keyboard.type("my parcel")
        page.keyboard.press("Control+Enter")
        expect(page.get_by_role("status").filter(has_text="Answer: delivery")).to_be_attached()
        page.get_by_role("tab", name="One text").focus()
        page.keyboard.press("ArrowRight")
        expect(page.get_by_role("tabpanel", name="Many texts")).to_be_visible()
        page.keyboard.press("End")
        expect(page.get_by_role("tabpanel", name="Server")).to_be_visible()
        page.keyboard.press("ArrowRight")
        expect(page.get_by_role("tabpanel", name="One text")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_keeps_people_out(counted: Serve, opened: Open, scheme: str) -> None:
    # Without motion, because colours that are on their way are not yet those that people read.
    how = {"color_scheme": scheme, "reduced_motion": "reduce", "bypass_csp": True}
    with counted() as (address, _), opened(address, **how) as page:
        page.set_viewport_size({"width": 390, "height": 844})
        classify(page, "where is my parcel and i love you so much")
        assert barriers(page) == []
        give(page, "a.csv", "id,text\n1,my parcel\n2,love\n")
        page.get_by_role("button", name="Classify 2 texts").click()
        expect(page.locator("#download")).to_be_visible()
        assert barriers(page) == []
        for name in ("Model", "Server"):
            page.get_by_role("tab", name=name).click()
            expect(page.locator("[role=tabpanel]:visible h2").first).to_be_visible()
            assert barriers(page) == []
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.evaluate(
            "document.querySelector('h2').style.color = '#888'; document.querySelector('#text').labels[0].remove()"
        )
        page.get_by_role("tab", name="One text").click()
        assert len(barriers(page)) > 0


def test_csv_is_read_and_written_as_python_does(counted: Serve, opened: Open) -> None:
    random = np.random.default_rng(0)
    fields = ["", "a", " b ", ",", ";", "\t", '"', '""', "x\ny", "x\r\ny", "é", "🙂", "1,5", 'say "hi"', "\n", "\r"]
    with counted() as (address, _), opened(address) as page:
        for delimiter in (",", ";", "\t"):
            tables = []
            for _ in range(200):
                rows, width = random.integers(1, 5, size=2)
                tables.append(
                    [[fields[place] for place in row] for row in random.integers(len(fields), size=(rows, width))]
                )
            written = []
            for table in tables:
                target = io.StringIO()
                csv.writer(target, delimiter=delimiter).writerows(table)
                written.append(target.getvalue())
            found = page.evaluate(
                """async ([texts, tables, delimiter]) => {
                    const { parse, format } = await import("/page/csv.js");
                    return [texts.map(text => parse(text, delimiter)), tables.map(rows => format(rows, delimiter))];
                }""",
                [written, tables, delimiter],
            )
            assert found[0] == tables
            for text, table in zip(found[1], tables, strict=True):
                assert list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)) == table


def test_files_of_other_encodings_and_delimiters(counted: Serve, opened: Open) -> None:
    with counted() as (address, _), opened(address) as page:
        for text, encoding in (("naïve;café\n", "cp1252"), ("naïve;東京\n", "utf-16"), ("naïve;東京\n", "utf-8-sig")):
            read = page.evaluate(
                """async bytes => {
                    const { decode, delimiterOf, parse } = await import("/page/csv.js");
                    const text = decode(new Uint8Array(bytes).buffer);
                    return parse(text, delimiterOf(text));
                }""",
                list(text.encode(encoding)),
            )
            assert read == [text.strip().split(";")]


def test_a_browser_that_is_missing_is_an_error_where_it_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv(MUST_RUN, raising=False)
    with pytest.raises(pytest.skip.Exception, match="no Chromium"), chromium():
        pass
    monkeypatch.setenv(MUST_RUN, "1")
    with pytest.raises(FileNotFoundError, match=MUST_RUN), chromium():
        pass


def test_a_large_file_is_no_problem(counted: Serve, opened: Open) -> None:
    with counted() as (address, _), opened(address) as page:
        give(page, "large.csv", "id,text\n" + "".join(f"{number},where is it\n" for number in range(300_000)))
        expect(page.get_by_role("button", name="Classify 300,000 texts")).to_be_visible()
        rows = page.evaluate(
            """async () => {
                const { labelled } = await import("/page/batch.js");
                const rows = Array.from({ length: 300000 }, () => ["a"]);
                return labelled(["text"], rows, [{ label: "x", score: 1 }]).length;
            }"""
        )
        assert rows == 300_001


def test_the_documentation_of_the_api_still_works(counted: Serve, opened: Open) -> None:
    with counted() as (address, _), opened(address, path="/docs") as page:
        expect(page.locator(".opblock").filter(has_text="/explain")).to_be_visible()
