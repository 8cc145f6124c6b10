"""What people are shown: complete, harmless whatever a peer calls itself, and meaningful without styles or drawings."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ElementTree

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exo_lab.core.device import DeviceSpeed, Flops, with_speed
from exo_lab.core.topology import link
from exo_lab.front.html import esc
from exo_lab.front.palette import Mark, assign
from exo_lab.front.ring_svg import ring_svg, ring_text
from exo_lab.front.roster import Roster
from exo_lab.front.strip import strip_label, strip_svg, strip_text
from exo_lab.front.text import clean, clean_block
from exo_lab.front.views import GenerationView, NodesView, PlanView, StatusView
from tests.front import scenes

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "\x1b[31m<script>alert(1)</script>\u202e\" onload='x'\n&amp;"


def drawing(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text)


def drawings(html: str) -> list[ElementTree.Element]:
    return [drawing(match) for match in re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)]


def every_view() -> dict[str, object]:
    members = scenes.devices()
    return {
        "status": StatusView(scenes.status()),
        "nodes": NodesView(scenes.nodes(members), (scenes.loaded(),)),
        "plan": PlanView.of_preview(scenes.preview()),
        "loaded": PlanView.of_loaded(scenes.loaded(), members),
        "generation": GenerationView("Paris.", scenes.stats(), members, tokens=scenes.events()),
        "running": GenerationView("", scenes.stats(finish=None), members),
    }


@st.composite
def cuts(draw):
    counts = draw(st.lists(st.integers(1, 40), min_size=1, max_size=14))
    return tuple(scenes.device(i, draw(st.text(max_size=60)) or "x") for i in range(len(counts))), tuple(counts)


@settings(max_examples=40, deadline=None)
@given(cuts())
def test_every_layer_has_exactly_one_cell_and_the_ends_have_one_each(cut):
    members, counts = cut
    plan = scenes.plan(members, counts)
    titles = [title.text or "" for title in drawing(strip_svg(plan, Roster(members))).iter(f"{SVG}title")]
    layers = [int(match[1]) for title in titles if (match := re.match(r"layer (\d+) on ", title))]
    assert layers == list(range(sum(counts)))
    assert sum(title.startswith("embedding on ") for title in titles) == 1
    assert sum(title.startswith("head on ") for title in titles) == 1


@settings(max_examples=40, deadline=None)
@given(cuts())
def test_the_strips_cells_lie_side_by_side_inside_the_picture(cut):
    members, counts = cut
    picture = drawing(strip_svg(scenes.plan(members, counts), Roster(members)))
    width = float(picture.get("viewBox", "").split()[2])
    cells = [rect for rect in picture.iter(f"{SVG}rect") if rect.get("fill-opacity") == "0"]
    spans = [(float(rect.get("x", "")), float(rect.get("width", ""))) for rect in cells]
    assert all(x >= 0 and x + w <= width for x, w in spans)
    assert all(x + w <= following + 0.25 for (x, w), (following, _) in itertools.pairwise(spans))


@settings(max_examples=40, deadline=None)
@given(cuts())
def test_the_text_strip_has_one_symbol_a_layer(cut):
    members, counts = cut
    plan, roster = scenes.plan(members, counts), Roster(members)
    lines = strip_text(plan, roster)
    cells = "".join(lines[: -len(counts)]).split("] ")[1].split(" head[")[0]
    assert [len(part) for part in cells.split("|")] == list(counts)
    for device, line in zip(plan.devices, lines[-len(counts) :], strict=True):
        assert roster[device].name in line


@pytest.mark.parametrize("count", [1, 2, 3, 5, 14])
def test_a_ring_of_n_stages_has_n_hops_the_last_of_which_carries_the_token_back(count):
    members = scenes.devices(count, emulated=None)
    plan = scenes.plan(members, (2,) * count)
    picture = drawing(ring_svg(plan, Roster(members)))
    arrows = [path for path in picture.iter(f"{SVG}path") if path.get("fill") == "currentColor"]
    assert len(arrows) == (count if count > 1 else 0)
    texts = [text.text for text in picture.iter(f"{SVG}text")]
    assert texts.count("token") == (1 if count > 1 else 0)
    width, height = (float(part) for part in picture.get("viewBox", "").split()[2:])
    for rect in picture.iter(f"{SVG}rect"):
        x, y, w, h = (float(rect.get(name, "")) for name in ("x", "y", "width", "height"))
        assert x >= 0
        assert y >= 0
        assert x + w <= width
        assert y + h <= height


def test_a_hop_shows_the_latency_that_was_measured_and_nothing_where_nothing_was():
    members = scenes.devices(3)
    plan = scenes.plan(members, (1, 1, 1))
    links = [link(members[0].id, members[1].id, kind="loopback", latency_s=0.00018, measured_at=1.0)]
    assert ring_text(plan, Roster(members), links).count("180 µs") == 1
    assert ring_svg(plan, Roster(members), links).count("180 µs") == 1
    assert "µs" not in ring_svg(plan, Roster(members))


@pytest.mark.parametrize("name", every_view())
def test_no_view_holds_ids_scripts_styles_of_the_page_or_references(name):
    html = every_view()[name].html()
    for forbidden in ("<script", "<style", " id=", "url(", "href", "class="):
        assert forbidden not in html


@pytest.mark.parametrize("name", every_view())
def test_every_drawing_is_named_for_those_who_do_not_see_it(name):
    for picture in drawings(every_view()[name].html()):
        named = picture.get("role") == "img" and picture.get("aria-label")
        assert named or picture.get("aria-hidden") == "true"


@pytest.mark.parametrize("name", every_view())
def test_html_without_drawings_and_attributes_still_names_every_node(name):
    view = every_view()[name]
    bare = re.sub(r"<svg.*?</svg>", "", view.html(), flags=re.DOTALL)
    words = re.sub(r"<[^>]*>", " ", bare)
    if name in ("running",):
        assert "waiting" in words
        return
    for member in scenes.devices():
        assert member.name in words
    assert "emulated" in words


@pytest.mark.parametrize("name", every_view())
def test_text_and_html_are_offered_together(name):
    bundle = every_view()[name]._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html"}
    assert all(bundle.values())


def hostile_views() -> list[object]:
    bad = scenes.device(1, HOSTILE, chip=HOSTILE, model=HOSTILE, emulated=HOSTILE, engines=(HOSTILE,))
    members = (bad, scenes.device(2))
    config = msgspec.structs.replace(scenes.config(4, HOSTILE), quantisation=HOSTILE)
    plan = msgspec.structs.replace(scenes.plan(members, (2, 2)), why=(HOSTILE,), strategy=HOSTILE, dtype=HOSTILE)
    nodes = tuple(msgspec.structs.replace(node, address=HOSTILE, how_found=HOSTILE) for node in scenes.nodes(members))
    model = msgspec.structs.replace(scenes.loaded(members, (2, 2)), config=config, plan=plan)
    stats = scenes.stats(plan=plan, model=HOSTILE, notices=(HOSTILE,), stage_compute_s=((bad.id, 0.1),))
    status = scenes.status(
        name=HOSTILE, bind=HOSTILE, nodes=nodes, models=(model, model), problems=(HOSTILE,), refused={HOSTILE: 1}
    )
    return [
        StatusView(status),
        PlanView.of_loaded(model, members),
        GenerationView(
            HOSTILE, stats, members, config=config, tokens=scenes.events(HOSTILE), state="error", error=HOSTILE
        ),
    ]


@pytest.mark.parametrize("index", range(3))
def test_nothing_that_a_peer_or_a_model_says_can_steer_the_page_or_the_terminal(index):
    view = hostile_views()[index]
    html, text = view.html(), view.text()
    assert "<script" not in html
    assert "onload='x'" not in html
    drawings(html)  # parse: no attribute was broken out of
    for shown in (html, text):
        assert "\x1b" not in shown
        assert "\u202e" not in shown


def test_a_lost_node_is_said_to_be_lost_in_words_and_since_when():
    members = scenes.devices()
    lost = tuple(
        msgspec.structs.replace(node, liveness="lost", seen_s_ago=12.0) if node.device.name == "kernel-2" else node
        for node in scenes.nodes(members)
    )
    view = NodesView(lost)
    for shown in (view.html(), view.text()):
        assert "lost" in shown
        assert "silent for 12.0 s" in shown
        assert "3 alive, 1 lost" in shown


def test_a_model_that_misses_a_node_does_not_look_healthy():
    members = scenes.devices()
    assert StatusView(scenes.status()).problems() == []
    lost = tuple(
        msgspec.structs.replace(node, liveness="lost") if node.device.name == "kernel-2" else node
        for node in scenes.nodes(members)
    )
    for nodes in (lost, scenes.nodes((members[0], members[2]))):  # seen to be lost, or forgotten already
        view = StatusView(scenes.status(nodes=nodes))
        for shown in (view.html(), view.text()):
            assert "cannot be relied on" in shown
            assert "%exo load" in shown


def test_what_was_not_measured_is_not_shown():
    view = GenerationView("", scenes.stats(tokens=0, ttft_s=None, tokens_per_s=None, stage_compute_s=(), finish=None))
    assert "tok/s" not in view.text()
    assert "first token after" not in view.text()
    unknown = scenes.device(1, memory_bytes=0)
    text = NodesView([msgspec.structs.replace(scenes.nodes((unknown,))[1], latency_s=None, load=None)]).text()
    assert "latency" not in text
    assert "memory free" not in text


def test_a_nodes_chip_and_speed_say_where_the_speed_is_from_and_count_an_emulations_slowdown():
    speed = DeviceSpeed(flops=Flops(fp32=0.25, fp16=1.0), memory_bandwidth_bytes_per_s=50e9)
    measured = with_speed(scenes.device(0), speed)
    emulated = msgspec.structs.replace(measured, id="b", name="slow", slowdown=2.0, emulated="2x slower")
    listed = scenes.device(3, flops=Flops(fp32=14.2, fp16=28.4, int8=56.8), speed_origin="chip table")
    view = NodesView(scenes.nodes((measured, emulated, listed, scenes.device(4))))
    for shown in (view.html(), view.text()):
        assert "fp32 0.25, fp16 1 TFLOPS, 50 GB/s (measured)" in shown
        assert "fp32 0.125, fp16 0.5 TFLOPS, 25 GB/s (measured)" in shown
        assert "fp32 14.2, fp16 28.4 TFLOPS (chip table)" in shown
        assert shown.count("TFLOPS") == 3
        assert shown.count("Xeon") == 5  # this node's too, of which nothing else is known


def test_a_device_that_left_keeps_its_place_in_a_plan_under_its_id():
    members = scenes.devices()
    text = PlanView.of_loaded(scenes.loaded(members), members[:2]).text()
    assert members[2].id[:8] in text


def test_a_device_has_the_same_mark_in_every_view():
    members = scenes.devices(5)
    marks = assign((member.id, member.name) for member in members)
    for view in (NodesView(scenes.nodes(members)), GenerationView("", scenes.stats(), members)):
        for member in members:
            assert view.roster[member.id].mark.index == marks[member.id].index


def test_running_drawings_are_small_enough_to_be_sent_ten_times_a_second():
    members = scenes.devices()
    running = GenerationView("Paris.", scenes.stats(finish=None), members).html()
    over = GenerationView("Paris.", scenes.stats(), members).html()
    assert len(running) < 8_000
    assert len(running) < len(over)


def test_an_emulated_device_says_so_in_the_strips_sentence():
    members = scenes.devices()
    assert "kernel-2 (emulated) holds layers 13" in strip_label(scenes.plan(members, (13, 4, 13)), Roster(members))


@given(st.text(max_size=200))
def test_a_line_of_foreign_text_has_no_control_characters_and_a_block_keeps_only_line_ends_and_tabs(text):
    assert not re.search(r"[\x00-\x1f\x7f-\x9f]", clean(text))
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", clean_block(text))
    assert not re.search(r"[<>\"']", esc(text))


def test_emoji_survive_in_an_answer():
    assert clean_block("a 👩‍🚀 b\n") == "a 👩‍🚀 b\n"


def test_the_first_56_devices_all_look_different():
    looks = {(Mark(i).colour, Mark(i).hatching) for i in range(56)}
    assert len(looks) == 56


def test_an_answer_with_alternatives_is_tinted_by_doubt_and_says_what_else_it_might_have_been():
    events = [
        msgspec.structs.replace(event, text=text, logprob=logprob, alternatives=((text, logprob), ("<b>\n", -1.6)))
        for event, text, logprob in zip(scenes.events(), ("Pa", "ris", " <i>"), (-0.01, -0.1, -2.0), strict=False)
    ]
    html = GenerationView("Paris <i>", scenes.stats(), tokens=events).html()
    spans = re.findall(
        r'<span style="background:rgba\(213,94,0,([0-9.]+)\)([^"]*)" title="([^"]*)">([^<]*)</span>', html
    )
    assert "".join(text for *_, text in spans) == esc("Paris <i>")
    assert [float(tint) for tint, *_ in spans] == sorted(float(tint) for tint, *_ in spans)
    assert [bool(line) for _, line, *_ in spans] == [False, False, True]  # a second cue below one half
    assert spans[2][2] == esc("probability 13.5%\n·<i> 13.5%\n<b>⏎ 20.2%")


def test_an_answer_is_plain_without_alternatives_while_it_runs_and_where_a_stop_string_cut_it():
    events = scenes.events("Paris. END")
    bare = [msgspec.structs.replace(event, alternatives=()) for event in events]
    for made in (
        GenerationView("Paris. END ", scenes.stats(finish=None), tokens=events),
        GenerationView("Paris. ", scenes.stats(), tokens=events),
        GenerationView("Paris. END ", scenes.stats(), tokens=bare),
    ):
        assert "rgba(213,94,0" not in made.html()


def test_what_was_kept_of_earlier_prompts_is_said_where_something_was():
    reused = scenes.stats(prompt_tokens=430, prompt_tokens_reused=412)
    assert "412 of 430 prompt tokens from the cache" in GenerationView("Paris.", reused).text()
    assert "from the cache" not in GenerationView("Paris.", scenes.stats()).text()
    kept = StatusView(scenes.status(kept_bytes=3 << 20, reused_tokens=412)).text()
    assert "3.00 MiB of earlier prompts kept, 412 tokens reused" in kept
    assert "earlier prompts" not in StatusView(scenes.status()).text()
