"""Whole photographs beside their enhanced versions: which are chosen, and how their pages are laid out."""

import itertools
import weakref

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pytest
from legible import smallest_text

from dped_lib import models
from dped_lib.base.errors import DpedError
from dped_lib.data.photographs import Photograph
from dped_lib.experiments import gallery
from dped_lib.report import figures, labels


def test_only_the_chosen_photographs_are_read(monkeypatch):
    """A dataset's photographs may be large files: an example reads the one that is used, and does not keep it."""
    reads = []

    def photograph(camera, i):
        def read():
            reads.append((camera, i))
            return np.zeros((4, 4, 3), np.uint8)

        return Photograph(f"{camera}/{i}", camera, read, str(i))

    everything = [photograph(camera, i) for camera in ("sony", "dslr") for i in range(9)]
    monkeypatch.setattr(gallery.photographs, "of_dataset", lambda _: everything)
    examples = gallery.choose_examples("rig", "sony", 2)
    assert [e.name for e in examples] == ["sony/0", "sony/8"]
    assert not reads
    pixels = weakref.ref(examples[1].original)
    assert reads == [("sony", 8)] and pixels() is None


def test_examples_are_held_out_ones_with_their_dslr():
    examples = gallery.choose_examples("rig", "sony", 2, {"photo:coffee", "photo:china"})
    assert len(examples) == 2 and all(s.phone == "sony" and s.dslr is not None for s in examples)
    with pytest.raises(DpedError, match="no whole photographs of the sony"):
        gallery.choose_examples("rig", "sony", 2, {"photo:nothing"})
    shown = gallery.enhanced_versions(examples[0], {"stand-in": None, "ours": models.generator("srcnn")})
    assert list(shown) == ["original", "stand-in", "ours", "DSLR"] and shown["ours"].shape == examples[0].original.shape
    figures.use_style()
    for fig, pictures in (
        (gallery.mosaic(shown, 3), 4),
        (gallery.grid([shown]), 4),
        (gallery.phone_page("rig", "sony", [shown] * 5), 15),
        (gallery.over_under([(shown["original"], shown["ours"])] * 2, ["Sony"] * 2), 4),
        (gallery.compare_methods([shown] * 4), 32),
    ):
        assert sum(bool(ax.images) for ax in fig.axes) == pictures
        assert smallest_text(fig) >= figures.SMALLEST_TEXT and fig.get_figwidth() <= figures.WIDTH
        plt.close(fig)


def test_patches_do_not_name_the_photographs_of_their_dataset(monkeypatch):
    """The pairs of pirm and dped come as patches, and their whole photographs are others."""
    everything = [Photograph("HD_res/1", "iphone", lambda: np.zeros((4, 4, 3), np.uint8), "HD_res/1")]
    monkeypatch.setattr(gallery.photographs, "of_dataset", lambda _: everything)
    assert [e.name for e in gallery.choose_examples("pirm", "iphone", 1, {"patch 7"})] == ["HD_res/1"]


def test_each_scene_is_shown_once_with_the_dslr_of_the_same_moment(monkeypatch):
    def photograph(shot, camera, scene, value):
        return Photograph(f"{shot}/{camera}", camera, lambda: np.full((4, 4, 3), value, np.uint8), scene)

    shots = (("flower-a", "flower", 10), ("flower-b", "flower", 20), ("wall", "wall", 30))
    everything = [photograph(n, c, s, v + (c == "dslr")) for n, s, v in shots for c in ("sony", "dslr")]
    monkeypatch.setattr(gallery.photographs, "of_dataset", lambda _: everything)
    examples = gallery.choose_examples("rig", "sony", 8)
    assert [e.name for e in examples] == ["flower-a/sony", "wall/sony"]
    assert all(e.dslr[0, 0, 0] == e.original[0, 0, 0] + 1 for e in examples)


def test_the_dslr_is_shown_as_the_phone_saw_the_scene():
    """Seen from the phone, the DSLR's photograph lies on the phone's: their gray images correlate far better."""
    (example,) = gallery.choose_examples("rig", "sony", 1)
    seen = gallery.seen_from_phone(example)
    assert seen.shape == example.original.shape and seen.dtype == np.uint8

    def correlation(dslr):
        grays = (cv2.cvtColor(i, cv2.COLOR_RGB2GRAY)[60:-60, 60:-60].ravel() for i in (example.original, dslr))
        return np.corrcoef(*grays)[0, 1]

    size = example.original.shape[1::-1]
    assert correlation(seen) > 0.97 > 0.8 > correlation(cv2.resize(example.dslr, size))
    flat = np.full_like(example.dslr, 90)
    nothing = gallery.Example(example.of_phone, Photograph("flat", "dslr", lambda: flat, "flat"))
    assert gallery.seen_from_phone(nothing) is flat


def test_a_crop_is_where_the_detail_is():
    picture = np.full((200, 300, 3), 128, np.uint8)
    picture[90:120, 180:230] = np.random.default_rng(0).integers(0, 256, (30, 50, 3))
    y, x, height, width = gallery.detail(picture)
    assert (height, width) == (40, 60)
    assert y <= 90 and y + height >= 120 and x <= 180 and x + width >= 230


ROW = dict.fromkeys(
    (
        "original",
        labels.METHOD_NAMES["auto"],
        "Dong et al. (smoke)",
        "ours, shipped:city100-iphonex (cpu)",
    ),
    np.zeros((30, 40, 3), np.uint8),
)


def test_methods_have_titles_that_do_not_overlap():
    """Figure 8: each title stays in its column; a method that could not run has no column, and the figure says so."""
    figures.use_style()
    rows = [{**ROW, "Johnson et al. (smoke)": ROW["original"], "DSLR": ROW["original"]}] * 2
    fig = gallery.compare_methods(rows, ["authors' weights"])
    fig.draw_without_rendering()
    titles = [ax.title for ax in fig.axes if ax.get_title()]
    assert len(fig.axes) == 4 * len(titles) == 4 * 6
    boxes = [t.get_window_extent() for t in titles]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert "ours,\nshipped:\ncity100-iphonex\n(cpu)" in [t.get_text() for t in titles], (
        "a name that must be broken begins a line, and breaks at colons first"
    )
    assert fig.get_suptitle() == "authors' weights: not here"
    assert smallest_text(fig) >= figures.SMALLEST_TEXT
    plt.close(fig)


def test_what_a_photograph_does_not_show_by_itself_is_written():
    """White wedges are beyond the DSLR's frame, and crops are enlarged: the picture says so, and only where it is so."""
    figures.use_style()
    picture = np.zeros((30, 40, 3), np.uint8)
    warped = {"original": picture, "ours": picture, "DSLR": picture}
    unaligned = {**warped, "DSLR": np.zeros((60, 90, 3), np.uint8)}
    for draw in (lambda row: gallery.compare_methods([row]), lambda row: gallery.mosaic(row, 2)):
        for row, words in ((warped, "DSLR, from the phone's view (white: beyond its frame)"), (unaligned, "DSLR")):
            fig = draw(row)
            assert [" ".join(ax.get_title().split()) for ax in fig.axes[:3]] == ["original", "ours", words]
            for _ in range(2):
                fig.draw_without_rendering()
            drawn = [ax.title.get_window_extent() for ax in fig.axes if ax.get_title()]
            drawn += [ax.get_window_extent() for ax in fig.axes if ax.images]
            assert not any(a.overlaps(b) for a, b in itertools.combinations(drawn, 2))
            plt.close(fig)
    fig = gallery.compare_methods([{**ROW, "Johnson et al. (smoke)": ROW["original"], "DSLR": ROW["original"]}] * 2)
    labels_of_rows = [" ".join(ax.get_ylabel().split()) for ax in fig.axes[::6]]
    assert labels_of_rows == ["", "yellow frame enlarged"] * 2
    for _ in range(2):
        fig.draw_without_rendering()
    boxes = [ax.yaxis.label.get_window_extent() for ax in fig.axes[6::12]]
    rows = [ax.get_window_extent() for ax in fig.axes[6::12]]
    assert all(row.y0 <= box.y0 and box.y1 <= row.y1 for box, row in zip(boxes, rows, strict=True))
    plt.close(fig)


def test_scenes_are_named_beside_their_photographs():
    """Nobody finds a photograph again without its name. A long name stays in its row, and moves no title onto another."""
    figures.use_style()
    example = gallery.Example(Photograph("a/b/sony", "sony", lambda: None, "s"))
    assert example.scene == "a/b" and gallery.Example(Photograph("sony", "sony", lambda: None, "s")).scene == "sony"
    scenes = ["flower-a", "IMG_20161027_133205_HDR"]
    picture = np.zeros((30, 40, 3), np.uint8)
    name = "ours, shipped:city100-iphonex (cpu)"
    whole = gallery.compare_methods([{**ROW, "Dong et al.": picture, "Johnson et al.": picture}] * 2, names=scenes)
    page = gallery.phone_page("city100", "iphonex", [{"original": picture, name: picture}] * 4, scenes=scenes * 2)
    for fig, named in ((whole, scenes), (page, scenes * 2)):
        for _ in range(2):
            fig.draw_without_rendering()
        beside = [ax for ax in fig.axes if ax.get_ylabel() and "enlarged" not in ax.get_ylabel()]
        assert ["".join(ax.get_ylabel().split()) for ax in beside] == named
        assert all(ax.yaxis.label.get_visible() and ax.axison for ax in beside)
        for ax in beside:
            words, row = ax.yaxis.label.get_window_extent(), ax.get_window_extent()
            assert words.x0 >= 0 and row.y0 - 1 <= words.y0 and words.y1 <= row.y1 + 1
            left = [b.x1 for b in (o.get_window_extent() for o in fig.axes if o.images) if b.x1 < words.x1]
            apart = row.x0 - words.x1
            assert all(words.x0 - end > 1.5 * apart for end in left), "a name is nearest to its own picture"
        titles = [ax.title.get_window_extent() for ax in fig.axes if ax.get_title()]
        assert not any(a.overlaps(b) for a, b in itertools.combinations(titles, 2))
        assert smallest_text(fig) >= figures.SMALLEST_TEXT
        plt.close(fig)


def test_a_page_of_a_phone_has_no_empty_column():
    figures.use_style()
    names = "original", "Dong et al. (smoke)"
    fig = gallery.phone_page("rig", "sony", [{k: ROW[k] for k in names}] * 3, ["authors' weights"])
    assert [ax.get_title() for ax in fig.axes if ax.images] == [*names, *names, "", ""]
    assert fig.get_suptitle() == "Sony Xperia Z: 3 scenes (authors' weights: not here)"
    plt.close(fig)


def test_long_names_of_networks_do_not_run_into_their_neighbours():
    figures.use_style()
    name, picture = "ours, shipped:city100-iphonex (cpu)", np.zeros((60, 84, 3), np.uint8)
    under = gallery.over_under([(picture, picture)] * 4, ["iPhone X"] * 4, label=name)
    page = gallery.phone_page("city100", "iphonex", [{"original": picture, name: picture}] * 8)
    for fig in (under, page):
        for _ in range(2):
            fig.draw_without_rendering()
    upper, lower = (under.axes[i].yaxis.label.get_window_extent() for i in (0, 4))
    assert lower.y1 < upper.y0 and lower.y0 > 0
    titles = [ax.title.get_window_extent() for ax in page.axes if ax.get_title()]
    assert all(a.x1 < b.x0 for a, b in itertools.pairwise(titles)) and titles[-1].x1 <= page.bbox.x1
    plt.close(under)
    plt.close(page)


def test_figure_9_says_whose_network():
    picture = np.zeros((4, 6, 3), np.uint8)
    labelled = gallery.over_under([(picture, picture)], label="authors' weights")
    assert [ax.get_ylabel() for ax in labelled.axes] == ["original", "authors' weights"]
    plt.close(labelled)
