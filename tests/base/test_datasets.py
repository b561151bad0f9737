"""The datasets and their cameras."""

import pytest

from dped_lib.base import datasets
from dped_lib.base.errors import DpedError
from dped_lib.data import photographs


def test_a_dataset_has_its_own_cameras():
    assert datasets.first_phone("city100") == "iphonex" and datasets.first_phone("pirm") == "iphone"
    assert datasets.camera_name("city100", "dslr") == "Nikon D5500"
    assert datasets.camera_name("rig", "dslr") == "Canon 70D DSLR" and datasets.camera_name("own", "dslr") == "DSLR"
    for dataset, phones in datasets.DATASET_PHONES.items():
        for phone in phones:
            assert datasets.camera_name(dataset, phone)
    assert datasets.photograph_name("rig", "town-1/sony") == "town-1, Sony Xperia Z"
    assert datasets.photograph_name("pirm", "demo/iphone/2_0") == "demo/2_0, iPhone 3GS"
    assert datasets.photograph_name("city100", "056/dslr") == "056, Nikon D5500"
    assert datasets.photograph_name("own", "sony/phone") == "sony, phone"  # a user's photograph that is called sony
    assert datasets.photograph_name("pirm", "a name without a camera") == "a name without a camera"
    with pytest.raises(DpedError, match=r"dataset 'city100' has no iphone photographs, only iphonex"):
        datasets.check_phone("city100", "iphone")
    with pytest.raises(DpedError, match="dataset with photographs to align 'pirm'"):
        photographs.scene("pirm", "1")
