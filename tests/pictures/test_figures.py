"""Figures say what is drawn in words and units, keep signs apart, and their files replace no other's."""

import io

import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from PIL import Image

from c3po_adaptive.errors import DataError, SettingError
from c3po_adaptive.pictures import Ink, Panel, View, check_picture, layers_by_experts, save_picture, tokens_by_layers
from c3po_adaptive.pictures.figures import drawable, numbered

VALUES = np.array([[0.0, 0.5, 1.0], [0.25, 0.0, 0.0]])


def words(figure):
    """All that can be read in a figure."""
    figure.draw_without_rendering()
    found = [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]
    return [text for text in found if text]


def squares(axes):
    """Colors of the squares of a map, by row and column."""
    (drawn,) = (c for c in axes.collections if isinstance(c, PolyCollection))
    places = [path.vertices[:4].mean(0).round().astype(int).tolist() for path in drawn.get_paths()]
    return {(y, x): tuple(color) for (x, y), color in zip(places, drawn.get_facecolors(), strict=True)}


def luminance(color):
    """Of a color on white, as a print in grey has it."""
    shown = np.array(color[:3]) * color[3] + 1 - color[3]
    return float(shown @ [0.2126, 0.7152, 0.0722])


class TestLayersByExperts:
    def test_a_square_for_each_weight_and_none_for_zero(self):
        figure = layers_by_experts([Panel("mine", VALUES, "weight", unit=" %")], (4, 9), title="all")
        found = squares(figure.axes[0])
        assert found.keys() == {(0, 1), (0, 2), (1, 0)}
        assert luminance(found[0, 2]) < luminance(found[0, 1]) < luminance(found[1, 0]) < 1
        assert {"mine", "all", "decoder layer", "expert", "weight", "4", "9", "0 %", "0.5 %", "1 %"} <= {*words(figure)}

    def test_panels_of_weights_share_a_scale_and_changes_have_their_own(self):
        panels = [Panel("a", VALUES, "w"), Panel("b", 2 * VALUES, "w"), Panel("c", -VALUES, "change", signed=True)]
        figure = layers_by_experts(panels, (0, 1), marked=(1,))
        a, b, c = (squares(axes) for axes in figure.axes[:3])
        assert a[0, 2] == b[0, 1], "the same weight in the same color"
        assert c[0, 2][3] == 1
        assert c[0, 2][:3] != a[0, 2][:3]
        assert {"* 1", "decoder layer (* selected)", "+1", "−1"} <= {*words(figure)}
        up = squares(layers_by_experts([panels[2], Panel("d", VALUES, "", signed=True)], (0, 1)).axes[1])
        assert up[0, 2][:3] != c[0, 2][:3], "rises and falls are told apart"

    def test_titles_that_no_font_has(self):
        figure = layers_by_experts([Panel("\u6c34?", VALUES, "w")], (0, 1), title="\u6c34")
        assert {"\\u6c34?", "\\u6c34"} <= {*words(figure)}

    def test_nothing_at_all_is_drawn_too(self):
        figure = layers_by_experts([Panel("zero", 0 * VALUES, "w")], (0, 1))
        assert squares(figure.axes[0]) == {}

    @pytest.mark.parametrize(("experts", "narrow", "stacked"), [(8, False, False), (64, False, True), (8, True, True)])
    def test_wide_maps_stand_one_above_the_other(self, experts, narrow, stacked):
        panels = [Panel(name, np.ones((3, experts)), "w") for name in "ab"]
        figure = layers_by_experts(panels, (0, 1, 2), narrow=narrow)
        figure.draw_without_rendering()
        one, other = (axes.get_position() for axes in figure.axes[:2])
        assert bool(abs(one.x0 - other.x0) < 1e-6) is stacked
        assert bool(abs(one.y0 - other.y0) < 1e-6) is not stacked


@pytest.mark.parametrize(
    ("most", "signed", "said"),
    [
        (22.53, False, ["0 %", "10 %", "20 %"]),
        (100.0, False, ["0 %", "50 %", "100 %"]),
        (0.0371, False, ["0 %", "0.02 %"]),
        (16.7, True, ["−10 %", "0 %", "+10 %"]),
    ],
)
def test_color_bars_have_round_numbers(most, signed, said):
    panel = Panel("a", np.array([[most, -most if signed else 0]]), "w", signed=signed, unit=" %")
    bar = layers_by_experts([panel], (0,)).axes[1]
    assert [text.get_text() for text in bar.get_yticklabels()] == said


def test_labels_are_as_many_as_there_is_room_for():
    assert numbered(5, 12) == [0, 1, 2, 3, 4]
    assert numbered(128, 12) == [0, 16, 32, 48, 64, 80, 96, 112]
    assert numbered(24, 12) == [*range(0, 24, 2)]


class TestTokensByLayers:
    def view(self, **changes):
        known = {"title": "own", "experts": np.array([[3, 1], [0, -1]]), "strength": np.array([[1, 0.5], [0.2, 0]])}
        return View(**known | {"label": "share"} | changes)

    def test_numbers_of_experts_stand_in_their_places(self):
        figure = tokens_by_layers([self.view()], [" boat", "\n"], (7, 8), title="model")
        placed = {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in figure.axes[0].texts}
        assert placed == {(0, 0): "3", (0, 1): "1", (1, 0): "0"}
        assert {"boat", "⏎", "7", "8", "decoder layer", "share", "100 %", "own", "model"} <= {*words(figure)}
        assert squares(figure.axes[0]).keys() == {(0, 0), (0, 1), (1, 0)}

    def test_numbers_can_be_read_on_their_colors(self):
        strong, weak, _ = tokens_by_layers([self.view()], ["a", "b"], (7, 8)).axes[0].texts
        assert strong.get_color() == "white"
        assert weak.get_color() == Ink().text

    def test_what_changed_has_another_color(self):
        figure = tokens_by_layers([self.view(), self.view(changed=True)], ["a", "b"], (7, 8))
        one, other = squares(figure.axes[0]), squares(figure.axes[1])
        assert one[0, 0][:3] != other[0, 0][:3]

    def test_a_token_that_was_not_recorded_says_so(self):
        experts = np.array([[3, 1], [-1, -1]])
        figure = tokens_by_layers([self.view(experts=experts, label="")], ["a", "b"], (7, 8))
        assert "not recorded" in words(figure)
        assert len(figure.axes) == 1, "no scale where colors mean nothing"

    def test_tokens_that_no_font_has(self):
        figure = tokens_by_layers([self.view()], ["\u4f60", "$x$" + 40 * "y"], (7, 8))
        assert "\\u4f60" in words(figure)
        assert "$x$" + 14 * "y" + "…" in words(figure)
        assert drawable("a\x00\ud800") == "a\\u0000\\ud800"
        figure.savefig(io.BytesIO(), format="png")


class TestFiles:
    def figure(self):
        return layers_by_experts([Panel("mine", VALUES, "weight")], (4, 9))

    def test_svg_and_png(self, tmp_path):
        for name in ("a.svg", "a.png", "a.PNG"):
            save_picture(self.figure(), tmp_path / name)
        assert "<svg" in (tmp_path / "a.svg").read_text()
        assert ">decoder layer<" in (tmp_path / "a.svg").read_text(), "text stays text"
        with Image.open(tmp_path / "a.png") as drawn:
            assert drawn.width > 300

    def test_the_same_bytes_again(self, tmp_path):
        one, other = (save_picture(self.figure(), tmp_path / f"{name}.svg").read_bytes() for name in "ab")
        assert one == other

    def test_an_older_one_is_replaced_and_no_other(self, tmp_path):
        save_picture(self.figure(), tmp_path / "a.png")
        save_picture(self.figure(), tmp_path / "a.png")
        Image.new("RGB", (9, 9)).save(tmp_path / "mine.png")
        before = (tmp_path / "mine.png").read_bytes()
        with pytest.raises(DataError, match="a place for a picture"):
            save_picture(self.figure(), tmp_path / "mine.png")
        assert (tmp_path / "mine.png").read_bytes() == before

    @pytest.mark.parametrize("name", ["a.jpg", "a", "a.svg.gz"])
    def test_other_formats_are_refused(self, name, tmp_path):
        with pytest.raises(SettingError, match=r"end in \.png or \.svg"):
            check_picture(tmp_path / name)

    def test_a_disk_that_refuses(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(DataError, match="name a folder you may write to"):
            save_picture(self.figure(), tmp_path / "file" / "a.png")

    def test_a_notebook_shows_it(self):
        assert self.figure()._repr_png_().startswith(b"\x89PNG")
