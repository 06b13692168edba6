"""Folders of images: class maps, splits, masks, and what is refused."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from assay.data import load

RNG = np.random.default_rng(1)


def picture(path, size=(8, 6), mode="RGB", seed=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = size if mode == "L" else (*size, len(mode))
    rng = RNG if seed is None else np.random.default_rng(seed)
    pixels = rng.integers(0, 256, shape, np.uint8)
    Image.fromarray(pixels, mode if mode != "RGBA" else None).save(path)
    return pixels


def folder(root, names=("cat", "dog"), count=5, **options):
    return {name: [picture(root / name / f"{i}.png", **options) for i in range(count)] for name in names}


def test_round_trip(tmp_path):
    made = folder(tmp_path / "photos")
    data = load(f"folder:{tmp_path}/photos", split="all")
    assert data.classes == ("cat", "dog")
    assert data.y.tolist() == [0] * 5 + [1] * 5
    assert torch.equal(data.x, torch.from_numpy(np.stack(made["cat"] + made["dog"]).transpose(0, 3, 1, 2)))
    assert data.name == "photos/all"
    train, test = (load(f"folder:{tmp_path}/photos", split=s) for s in ("train", "test"))
    assert (len(train), len(test)) == (8, 2)


@pytest.mark.parametrize("test_name", ["test", "val", "validation"])
def test_splits_share_one_class_map(tmp_path, test_name):
    folder(tmp_path / "train", ("ant", "bee", "cow"))
    folder(tmp_path / test_name, ("bee", "cow"), count=2)
    data = load(f"folder:{tmp_path}?empty=ant", split="test")
    assert data.classes == ("ant", "bee", "cow")
    assert data.y.tolist() == [1, 1, 2, 2]
    assert len(load(f"folder:{tmp_path}", split="train")) == 15
    with pytest.raises(ValueError, match=r"class 'ant': expected images in .* \(or \?empty=ant\), got no such folder"):
        load(f"folder:{tmp_path}", split="test")
    with pytest.raises(ValueError, match="for a folder that is divided"):
        load(f"folder:{tmp_path}", split="all")


@pytest.mark.parametrize(
    ("name", "text", "classes"),
    [
        ("classes.txt", "dog\ncat\n\n", ("dog", "cat")),
        ("classes.json", '["dog", "cat"]', ("dog", "cat")),
        ("classes.json", '{"cat": 1, "dog": 0}', ("dog", "cat")),
        ("classes.json", '{"dog": "hound", "cat": "tabby"}', ("hound", "tabby")),
    ],
)
def test_class_maps(tmp_path, name, text, classes):
    made = folder(tmp_path)
    (tmp_path / name).write_text(text)
    data = load(f"folder:{tmp_path}", split="all")
    assert data.classes == classes
    assert torch.equal(data.x[0], torch.from_numpy(made["dog"][0].transpose(2, 0, 1)))


def test_numbered_folders_need_a_map(tmp_path):
    names = [str(k) for k in range(11)]
    made = folder(tmp_path, names, count=1)
    with pytest.raises(ValueError, match=r"expected a classes.txt .* sorted as text they go 0, 1, 10, 2"):
        load(f"folder:{tmp_path}", split="all")
    (tmp_path / "classes.txt").write_text("\n".join(names))
    data = load(f"folder:{tmp_path}", split="all")
    assert torch.equal(data.x[2], torch.from_numpy(made["2"][0].transpose(2, 0, 1)))
    assert data.y.tolist() == list(range(11))


def test_grey_and_mixed_images(tmp_path):
    grey = folder(tmp_path / "grey", ("a", "b"), mode="L")
    data = load(f"folder:{tmp_path}/grey", split="all")
    assert data.x.shape == (10, 1, 8, 6)
    picture(tmp_path / "grey" / "b" / "9.png")
    mixed = load(f"folder:{tmp_path}/grey", split="all")
    assert mixed.x.shape == (11, 3, 8, 6)
    assert torch.equal(mixed.x[0], torch.from_numpy(grey["a"][0]).expand(3, 8, 6))
    assert load(f"folder:{tmp_path}/grey?mode=l", split="all").x.shape == (11, 1, 8, 6)


def test_resize_and_different_sizes(tmp_path):
    folder(tmp_path)
    picture(tmp_path / "cat" / "9.png", size=(12, 12))
    with pytest.raises(ValueError, match=r"image cat/9.png: expected one size for all, 8×6 as the first .*got 12×12"):
        load(f"folder:{tmp_path}", split="all")
    assert load(f"folder:{tmp_path}?size=10", split="all").x.shape == (11, 3, 10, 10)
    assert load(f"folder:{tmp_path}?size=10x4", split="all").x.shape == (11, 3, 10, 4)


@pytest.mark.parametrize("beside", [True, False])
def test_masks(tmp_path, beside):
    root = tmp_path / "photos"
    folder(root)
    place = tmp_path / "photos_masks" if beside else root / "masks"
    for path in root.glob("[cd]*/*.png"):
        mask = np.zeros((8, 6), np.uint8)
        mask[: int(path.stem) + 1] = 255
        (place / path.parent.name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(place / path.parent.name / path.name)
    data = load(f"folder:{root}", split="all")
    assert data.classes == ("cat", "dog")
    assert data.masks.flatten(1).sum(1).tolist() == [6, 12, 18, 24, 30] * 2
    assert load(f"folder:{root}?size=16x12", split="all").masks.flatten(1).sum(1).tolist() == [24, 48, 72, 96, 120] * 2
    Image.fromarray(np.zeros((8, 5), np.uint8)).save(place / "dog" / "1.png")
    with pytest.raises(ValueError, match=r"mask dog/1.png: expected the size of its image, 8×6, got 8×5"):
        load(f"folder:{root}", split="all")
    Image.fromarray(np.full((8, 6), 3, np.uint8)).save(place / "dog" / "1.png")
    with pytest.raises(ValueError, match=r"mask dog/1.png: expected a mask of only 0 and 1, .*values such as \[3\]"):
        load(f"folder:{root}", split="all")
    (place / "dog" / "1.png").unlink()
    with pytest.raises(ValueError, match=r"masks: expected a mask .* for '1.png', got no such file"):
        load(f"folder:{root}", split="all")


def corrupt(root):
    path = root / "cat" / "1.png"
    path.write_bytes(path.read_bytes()[:60])


def flipped(root):
    path = root / "cat" / "1.png"
    content = bytearray(path.read_bytes())
    content[60] ^= 0xFF
    path.write_bytes(bytes(content))


def map_of(name, text):
    return lambda root: (root / name).write_text(text)


def leading_out(root):
    picture(root.parent / "secret.png")
    (root / "cat" / "x.png").symlink_to(root.parent / "secret.png")


def class_leading_out(root):
    picture(root.parent / "elsewhere" / "x.png")
    (root / "emu").symlink_to(root.parent / "elsewhere", target_is_directory=True)


@pytest.mark.parametrize(
    ("damage", "options", "message"),
    [
        (corrupt, "", r"image cat/1.png: expected a sound image file \(PNG, "),
        (flipped, "", "image cat/1.png: expected a sound image file"),
        (lambda r: (r / "cat" / "1.png").write_bytes(b"GIF89a"), "", "image cat/1.png: expected a sound image file"),
        (lambda r: (r / "cat" / "notes.md").write_text("x"), "", "expected only image files .*got 'notes.md'"),
        (lambda r: (r / "cat" / "more").mkdir(), "", "expected only image files .*got 'more'"),
        (lambda r: (r / "emu").mkdir(), "", r"class 'emu': expected images in .*got an empty folder"),
        (map_of("classes.txt", "cat\ndog\nemu"), "", "class 'emu': expected images in .*got no such folder"),
        (map_of("classes.txt", "cat"), "", "expected only folders of the class map, got also 'dog'"),
        (map_of("classes.txt", "cat\ndog\ncat"), "", "expected each folder once, got 'cat' more than once"),
        (map_of("classes.txt", "cat\ndog\n../up"), "", r"expected plain folder names, got '../up'"),
        (map_of("classes.txt", "\n"), "", "expected at least one class"),
        (map_of("classes.json", "{"), "", "class map .*: expected JSON"),
        (map_of("classes.json", '{"cat": 1, "dog": 2}'), "", "expected a list of folders, or an object"),
        (map_of("classes.json", '{"cat": true, "dog": 0}'), "", "expected a list of folders, or an object"),
        (leading_out, "", "expected files inside it, got 'x.png', which leads to"),
        (class_leading_out, "", "expected files inside it, got 'emu', which leads to"),
        (lambda r: picture(r / "cat" / "7.png", mode="RGBA"), "", "expected an opaque image, got one with transparent"),
        (lambda r: None, "?size=0", "option size: expected a size in pixels"),
        (lambda r: None, "?mode=hsv", "option mode: expected one of 'auto', 'rgb', 'l'"),
        (lambda r: None, "?max_gib=1e-9", "images: expected at most 1e-09 GiB of pixels"),
        (lambda r: None, "?sise=3", r"spec: expected an option of 'folder' .*got 'sise' .did you mean 'size'"),
    ],
)
def test_bad_folders(tmp_path, damage, options, message):
    root = tmp_path / "photos"
    folder(root)
    damage(root)
    with pytest.raises(ValueError, match=message):
        load(f"folder:{root}{options}", split="all")


def test_sixteen_bits_and_animations_are_refused(tmp_path):
    folder(tmp_path)
    path = tmp_path / "cat" / "1.png"
    Image.fromarray(np.zeros((8, 6), np.uint16)).save(path)
    with pytest.raises(ValueError, match="expected 8 bits a channel"):
        load(f"folder:{tmp_path}", split="all")
    frames = [Image.fromarray(RNG.integers(0, 256, (8, 6, 3), np.uint8)) for _ in range(2)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match="expected one picture a file, got 2 frames"):
        load(f"folder:{tmp_path}", split="all")


def test_decompression_limit_is_an_error(tmp_path, monkeypatch):
    folder(tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    with pytest.raises(ValueError, match="DecompressionBombWarning"):
        load(f"folder:{tmp_path}", split="all")


def test_opaque_alpha_is_dropped(tmp_path):
    made = folder(tmp_path)
    pixels = np.dstack([made["cat"][0], np.full((8, 6), 255, np.uint8)])
    Image.fromarray(pixels).save(tmp_path / "cat" / "0.png")
    assert torch.equal(
        load(f"folder:{tmp_path}", split="all").x[0], torch.from_numpy(made["cat"][0].transpose(2, 0, 1))
    )


def test_a_split_folder_alone_is_not_divided_in_silence(tmp_path):
    folder(tmp_path / "test")
    with pytest.raises(ValueError, match=r"in the place of 'test', or the parent folder, or \?holdout=0"):
        load(f"folder:{tmp_path}/test", split="test")
    assert len(load(f"folder:{tmp_path}/test?holdout=0", split="test")) == 10


def test_no_folder_and_nothing_in_it(tmp_path):
    with pytest.raises(ValueError, match="folder path: expected a folder"):
        load(f"folder:{tmp_path}/none")
    with pytest.raises(ValueError, match="expected one folder a class, got no folders"):
        load(f"folder:{tmp_path}", split="all")


def test_class_map_json_is_read_as_utf8(tmp_path):
    folder(tmp_path, ("katze", "hund"))
    (tmp_path / "classes.json").write_text(json.dumps({"hund": "Hündin", "katze": "Kätzchen"}), "utf-8")
    assert load(f"folder:{tmp_path}", split="all").classes == ("Hündin", "Kätzchen")
