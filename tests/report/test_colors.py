"""Colours of things and of the words on them."""

import pytest

from dped_lib import losses, models
from dped_lib.base import datasets
from dped_lib.report import colors
from dped_lib.user_study import questions


@pytest.mark.parametrize(
    ("mapping", "things"),
    [
        (colors.PHONE_COLORS, {*datasets.ALL_PHONES, "dslr"}),
        (colors.KERNEL_COLORS, {"mse", *losses.KERNELS}),
        (colors.LOSS_COLORS, set(losses.LOSSES)),
        (colors.DISCRIMINATOR_COLORS, set(models.DISCRIMINATORS)),
        (colors.CLASS_COLORS, {cls for classes in questions.KINDS.values() for cls in classes}),
    ],
)
def test_each_thing_has_a_colour_of_its_own(mapping, things):
    assert set(mapping) == things
    assert len(set(mapping.values())) == len(mapping)


def test_a_picture_that_names_a_phone_has_no_phones_colour_for_something_else():
    """The accuracy of the discriminators has a phone in its caption, and the DSLR is not drawn there."""
    of_phones = {color for camera, color in colors.PHONE_COLORS.items() if camera != "dslr"}
    drawn = [colors.DISCRIMINATOR_COLORS[form] for form in ("two_image", "one_image")]
    assert not of_phones & set(drawn) and len(set(drawn)) == 2


def test_words_on_a_colour_can_be_read():
    assert colors.text_on(colors.BLACK) == "white" and colors.text_on(colors.YELLOW) == "black"
