from __future__ import annotations

import pytest
from playwright.sync_api import expect

from bertie.scores import Decision
from tests.browser import EVIL, MUST_RUN, Open, Serve, answer, barriers, chromium, classify, give, results, rows_of

pytestmark = pytest.mark.slow


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
        page.get_by_role("link", name="Skip to the content").press("Enter")
        expect(page.get_by_role("tabpanel", name="Many texts")).to_be_visible()
        assert page.evaluate("document.activeElement.id") == "main"
        page.get_by_role("tab", name="Many texts").focus()
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


def test_a_browser_that_is_missing_is_an_error_where_it_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv(MUST_RUN, raising=False)
    with pytest.raises(pytest.skip.Exception, match="no Chromium"), chromium():
        pass
    monkeypatch.setenv(MUST_RUN, "1")
    with pytest.raises(FileNotFoundError, match=MUST_RUN), chromium():
        pass


def test_the_documentation_of_the_api_still_works(counted: Serve, opened: Open) -> None:
    with counted() as (address, _), opened(address, path="/docs") as page:
        expect(page.locator(".opblock").filter(has_text="/explain")).to_be_visible()
