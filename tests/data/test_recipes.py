"""Recipes on small made archives of the layout in which the data sets are distributed."""

import io
import pickle
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from assay.cli.main import main
from assay.data import load
from assay.data.recipes.archives import Archive, compare_digests, locate
from assay.data.recipes.imagenet import TEN
from assay.data.recipes.registry import RECIPES, prepare_data


def picture(shade, side, form="PNG"):
    """An image file of one colour."""
    stream = io.BytesIO()
    Image.new("RGB", (side + 3, side), (shade, 20, 200 - shade)).save(stream, form)
    return stream.getvalue()


def write_zip(path, content):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def tar_bytes(content, mode="w"):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return stream.getvalue()


def make_stl10(folder):
    def part(count):
        images = np.zeros((count, 3, 96, 96), np.uint8)
        images[:, 0, 5, :] = 200  # stored column by column: a row once it is turned
        return images.tobytes(), bytes(1 + i % 10 for i in range(count))

    (train, train_y), (test, test_y) = part(12), part(10)
    names = "\n".join(f"kind{i}" for i in range(10)).encode()
    content = {"train_X.bin": train, "train_y.bin": train_y, "test_X.bin": test, "test_y.bin": test_y}
    content = {f"stl10_binary/{name}": data for name, data in (content | {"class_names.txt": names}).items()}
    (folder / "stl10_binary.tar.gz").write_bytes(tar_bytes(content, "w:gz"))


def make_cifar10(folder):
    def batch(seed):
        x = np.random.default_rng(seed).integers(0, 256, (4, 3072), dtype=np.uint8)
        return pickle.dumps({"data": x, "labels": [0, 1, 2, 9]}, protocol=2)

    content = {f"cifar-10-batches-py/data_batch_{i}": batch(i) for i in range(1, 6)}
    content |= {"cifar-10-batches-py/test_batch": batch(9), "cifar-10-batches-py/readme.html": b"hello"}
    meta = {"label_names": [f"kind{i}" for i in range(10)], "num_cases_per_batch": 4, "num_vis": 3072}
    content["cifar-10-batches-py/batches.meta"] = pickle.dumps(meta, protocol=2)
    (folder / "cifar-10-python.tar.gz").write_bytes(tar_bytes(content, "w:gz"))


def make_tiny_imagenet(folder):
    top = "tiny-imagenet-200"
    content = {f"{top}/words.txt": b"n02\tdog, hound\nn01\tcat\n"}
    content |= {f"{top}/train/n0{k}/images/n0{k}_{i}.JPEG": picture(40 * k, 64, "JPEG") for k in (2, 1) for i in (0, 1)}
    content |= {f"{top}/val/images/val_{i}.JPEG": picture(10, 64, "JPEG") for i in range(3)}
    content[f"{top}/val/val_annotations.txt"] = b"val_0.JPEG\tn02\t0\nval_1.JPEG\tn01\t0\nval_2.JPEG\tn02\t0\n"
    write_zip(folder / "tiny-imagenet-200.zip", content)


def make_gtsrb(folder):
    top = "GTSRB/Final_Training/Images"
    content = {f"{top}/{k:05d}/{i:05d}_00000.ppm": picture(9 * k, 40, "PPM") for k in range(3) for i in range(9)}
    write_zip(folder / "GTSRB_Final_Training_Images.zip", content | {f"{top}/00000/GT-00000.csv": b"Filename;ClassId"})


def make_segment6(folder):
    content, rows = {}, ["filename,label,partition"]
    for i in range(8):
        mask = Image.new("L", (32, 32))
        mask.paste(255, (4, 4, 12 + i, 20))
        stream = io.BytesIO()
        mask.save(stream, "PNG")
        content |= {f"set/images/{i}.png": picture(i, 32), f"set/masks/{i}.png": stream.getvalue()}
        rows.append(f"{i}.png,{'bird' if i % 2 else 'train'},{'test' if i > 5 else 'train'}")
    write_zip(folder / "masked_mscoco_6.zip", content | {"set/split.csv": "\n".join(rows).encode()})


def make_imagenet(folder):
    from scipy.io import savemat

    codes = list(TEN)
    synsets = np.array([(i + 1, code) for i, code in enumerate(codes)], [("ILSVRC2012_ID", "i4"), ("WNID", "O")])
    mat = io.BytesIO()
    savemat(mat, {"synsets": synsets})
    truth = "\n".join(str(i % 10 + 1) for i in range(20)).encode()
    top = "ILSVRC2012_devkit_t12/data"
    kit = {f"{top}/meta.mat": mat.getvalue(), f"{top}/ILSVRC2012_validation_ground_truth.txt": truth}
    (folder / "ILSVRC2012_devkit_t12.tar.gz").write_bytes(tar_bytes(kit, "w:gz"))
    val = {f"ILSVRC2012_val_{i + 1:08d}.JPEG": picture(i, 300, "JPEG") for i in range(20)}
    (folder / "ILSVRC2012_img_val.tar").write_bytes(tar_bytes(val))
    inner = {f"{code}.tar": tar_bytes({f"{code}_{i}.JPEG": picture(i, 260, "JPEG") for i in (1, 2)}) for code in codes}
    other = {"n00000001.tar": tar_bytes({"x.JPEG": b"not an image"})}
    (folder / "ILSVRC2012_img_train.tar").write_bytes(tar_bytes(other | inner))


MADE = {
    "stl10": (make_stl10, (12, 10), 96, 10),
    "cifar10": (make_cifar10, (20, 4), 32, 10),
    "tiny-imagenet": (make_tiny_imagenet, (4, 3), 64, 2),
    "gtsrb": (make_gtsrb, (24, 3), 32, 3),
    "segment6": (make_segment6, (6, 2), 32, 2),
    "imagenet10": (make_imagenet, (20, 20), 224, 10),
    "imagenet": (make_imagenet, None, 224, 10),
}


def test_every_recipe_is_here():
    assert set(MADE) == set(RECIPES)


@pytest.mark.parametrize("name", MADE)
def test_a_recipe_makes_what_studies_load(name, tmp_path):
    make, counts, side, classes = MADE[name]
    make(tmp_path)
    spec = prepare_data(name, tmp_path, tmp_path / "out" / name, unchecked=True)
    parts = [load(spec, split=split) for split in (("train", "test") if counts else ("test",))]
    assert tuple(map(len, parts)) == (counts or (20,))
    for part in parts:
        assert part.x.shape[1:] == (3, side, side)
        assert len(part.classes) == classes
        assert (part.masks is not None) == (name == "segment6")
    again = prepare_data(name, tmp_path, tmp_path / "out" / name, unchecked=True)
    assert again == spec


def test_what_is_in_the_archives_is_what_comes_out(tmp_path):
    make_stl10(tmp_path)
    data = load(prepare_data("stl10", tmp_path, tmp_path / "stl10.npz", unchecked=True), split="train")
    assert data.y.tolist()[:3] == [0, 1, 2]
    assert data.x[0, 0, :, 5].tolist() == [200] * 96  # rows and columns are in their places
    make_tiny_imagenet(tmp_path)
    tiny = load(prepare_data("tiny-imagenet", tmp_path, tmp_path / "tiny.npz", unchecked=True), split="test")
    assert [tiny.classes[label] for label in tiny.y] == ["dog", "cat", "dog"]
    make_segment6(tmp_path)
    objects = load(prepare_data("segment6", tmp_path, tmp_path / "six.npz", unchecked=True), split="test")
    assert [objects.classes[label] for label in objects.y] == ["train", "bird"]
    assert objects.masks.flatten(1).sum(1).tolist() == [14 * 16, 15 * 16]


def test_a_missing_file_is_named_with_where_to_get_it(tmp_path, capsys):
    assert main(["data", "prepare", "stl10", "--source", str(tmp_path), "-o", str(tmp_path / "x.npz")]) == 2
    message = capsys.readouterr().err
    assert "stl10_binary.tar.gz (from https://cs.stanford.edu/~acoates/stl10)" in message
    assert not (tmp_path / "x.npz").exists()


def test_another_file_of_that_name_is_refused(tmp_path):
    make_stl10(tmp_path)
    with pytest.raises(ValueError, match=r"stl10_binary.tar.gz: expected the published file, MD5 91f7.* got MD5"):
        prepare_data("stl10", tmp_path, tmp_path / "x.npz")
    own = Archive("stl10_binary.tar.gz", "here")
    compare_digests([own], locate([own], tmp_path))  # no digest is published of it


def test_a_file_of_ones_own_is_not_replaced(tmp_path):
    make_stl10(tmp_path)
    (tmp_path / "mine.npz").write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"out: expected a new file, or one that this recipe \(stl10\) has written"):
        prepare_data("stl10", tmp_path, tmp_path / "mine.npz", unchecked=True)
    assert (tmp_path / "mine.npz").read_bytes() == b"mine"


def test_a_torn_archive_is_named(tmp_path):
    make_gtsrb(tmp_path)
    path = tmp_path / "GTSRB_Final_Training_Images.zip"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"GTSRB_Final_Training_Images.zip: expected a sound zip or tar archive"):
        prepare_data("gtsrb", tmp_path, tmp_path / "x.npz", unchecked=True)


def test_a_command_prepares_and_says_how_it_is_loaded(tmp_path, capsys):
    make_segment6(tmp_path)
    out = tmp_path / "six.npz"
    words = ["data", "prepare", "segment6", "--source", str(tmp_path), "-o", str(out), "--unchecked", "--quiet"]
    assert main(words) == 0
    assert f"data: npz:{out}" in capsys.readouterr().out
    assert main(["ls", "recipes"]) == 0
    assert "imagenet10" in capsys.readouterr().out
