"""Pictures as text: the pixels that a page shows are those that were given, in whole steps."""

import base64
import io

import pytest
from PIL import Image

from pipeline.text.pictures import block_lines, page_image

LEVELS = [[0, 128, 255], [10, 20, 30], [255, 0, 255]]


def test_a_pages_image_has_the_pixels_that_were_given():
    image = page_image(LEVELS, about_px=64)
    head, _, data = image.source.partition(",")
    assert head == "data:image/png;base64"
    read = Image.open(io.BytesIO(base64.b64decode(data)))
    assert read.size == (3, 3)
    assert [list(read.getdata())[start : start + 3] for start in (0, 3, 6)] == LEVELS


@pytest.mark.parametrize(("about", "width"), [(64, 63), (3, 3), (1, 3), (7, 6)])
def test_it_is_shown_a_whole_number_of_times_its_size(about, width):
    image = page_image(LEVELS, about_px=about)
    assert (image.width_px, image.height_px) == (width, width)


def test_a_terminal_shows_two_rows_in_a_line_and_paper_below_the_last():
    lines = block_lines(LEVELS)
    assert [line.plain for line in lines] == ["▀▀▀", "▀▀▀"]
    assert str(lines[0].spans[0].style) == "rgb(0,0,0) on rgb(10,10,10)"
    assert str(lines[1].spans[1].style) == "rgb(0,0,0) on rgb(255,255,255)"
