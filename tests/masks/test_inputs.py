"""Masks that users hand in and cannot be right."""

import pytest
import torch
from PIL import Image

from assay.masks import Learned, SpectralResidual, folder_masks, salient_mask, threshold_mask


@pytest.fixture
def folder(tmp_path):
    """Masks 0 to 4: sound, of another size, half a file, words, a page."""
    Image.new("L", (8, 8)).save(tmp_path / "0.png")
    Image.new("L", (8, 9)).save(tmp_path / "1.png")
    (tmp_path / "2.png").write_bytes((tmp_path / "0.png").read_bytes()[:40])
    (tmp_path / "3.png").write_text("foreground")
    (tmp_path / "4.png").write_bytes(b"<html></html>")
    (tmp_path / "5.png").write_bytes(b"")
    (tmp_path / "6.png").mkdir()
    return tmp_path


FOLDERS = {
    "missing": ("7", "a mask image for '7'"),
    "another size": ("1", "masks of 8×8 pixels, got 9×8 for '1'"),
    "half a file": ("2", "a readable image for '2'"),
    "words": ("3", "a readable image for '3'"),
    "a page": ("4", "a readable image for '4'"),
    "nothing": ("5", "a readable image for '5'"),
    "a folder": ("6", "a mask image for '6'"),
    "a path out": ("../0", "a mask image for '../0'"),
}


@pytest.mark.parametrize("case", FOLDERS, ids=lambda case: case.replace(" ", "-"))
def test_wrong_mask_files(folder, case):
    name, words = FOLDERS[case]
    with pytest.raises(ValueError, match=r"^folder: expected [^\n]*, got [^\n]*$") as caught:
        folder_masks(folder, ["0", name], (8, 8))
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["", "  ", "/no/such/folder"])
def test_wrong_folders(name):
    with pytest.raises(ValueError, match=r"^folder: expected a folder of mask images, got"):
        folder_masks(name, [], (8, 8))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: threshold_mask(torch.rand(2, 3, 4, 4)), "density"),
        (lambda: threshold_mask(torch.rand(4, 4)), "density"),
        (lambda: salient_mask(SpectralResidual(), torch.rand(1, 3, 16, 16), batch=0), "batch"),
        (lambda: salient_mask(lambda x: x, torch.rand(1, 3, 16, 16)), "density"),
        (lambda: SpectralResidual(size=4), "size"),
        (lambda: SpectralResidual(sigma=-1), "sigma"),
        (lambda: SpectralResidual(window=2), "window"),
        (lambda: SpectralResidual(centre=0), "centre"),
        (lambda: SpectralResidual(uniform=1), "uniform"),
        (lambda: Learned(torch.nn.Identity(), kind="map"), "kind"),
        (lambda: Learned(torch.nn.Identity(), centre_bias=torch.rand(3)), "centre_bias"),
        (lambda: Learned(torch.nn.Identity(), size=0), "size"),
        (lambda: Learned(torch.nn.Identity())(torch.rand(1, 3, 8, 8)), "network"),
    ],
)
def test_wrong_arguments(call, name):
    with pytest.raises((ValueError, TypeError), match=rf"^{name}: expected [^\n]*, got [^\n]*$"):
        call()
