from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from playwright.sync_api import expect

from tests.browser import EVIL, Open, Serve, answer, give, results, rows_of

pytestmark = pytest.mark.slow


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


def test_a_file_of_lines(counted: Serve, opened: Open) -> None:
    with counted() as (address, moody), opened(address) as page:
        give(page, "notes.TXT", "my parcel, please\r\n\r\ni love it\r\n")
        page.get_by_role("button", name="Classify 3 texts").click()
        rows = rows_of(results(page))
    assert [row[:2] for row in rows] == [
        ["text", "label"],
        ["my parcel, please", "delivery"],
        ["", ""],
        ["i love it", "praise"],
    ]
    assert moody.asked == [2]


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
