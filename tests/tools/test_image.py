"""Pictures drawn and tagged by Pillow, read in every sandbox that works here."""

import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib import font_manager
from one_episode import play
from PIL import ExifTags, Image, ImageDraw, ImageFont

from aworld.environments.sandbox import Sandbox

pytestmark = pytest.mark.tools
FONT = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), 28)
LINES = [["The quick brown fox jumps over 13 lazy dogs."], ["Total", "$1,234.56"], ["See page 7, Zürich 1998"]]


def draw(mode: str = "RGB", paper: str | int = "white", ink: str = "black") -> Image.Image:
    picture = Image.new(mode, (900, 220), paper)
    pen = ImageDraw.Draw(picture)
    for row, pieces in enumerate(LINES):
        for column, words in enumerate(pieces):
            pen.text((20 + 560 * column, 20 + 60 * row), words, fill=ink, font=FONT)
    return picture


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    draw().save(folder / "plain.png")
    return folder


TEXT = "\n".join("\t".join(pieces) for pieces in LINES)


def test_text_is_read_under_the_limits_of_an_episode(sandbox: Sandbox, files: Path) -> None:
    (seen,) = play("image", files, ("read_image", {"path": "plain.png"}), sandbox=sandbox)
    assert seen.text == f"PNG, 900 x 220 pixels, RGB\n--- text ---\n{TEXT}"


@pytest.mark.deep
def test_what_the_camera_noted(files: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Model] = "Acme", "Eye 3"
    exif[ExifTags.Base.Orientation] = 6  # lies on its side
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2021:05:03 10:11:12"
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: "S", 2: (33.0, 51.0, 24.12), 3: "E", 4: (151.0, 12.0, 54.0)})
    draw().rotate(90, expand=True).save(files / "camera.jpg", exif=exif, quality=95)
    (seen,) = play("image", files, ("read_image", {"path": "camera.jpg"}))
    assert seen.text.splitlines()[:4] == [
        "JPEG, 220 x 900 pixels, RGB",
        "taken: 2021:05:03 10:11:12",
        "camera: Acme Eye 3",
        "place: -33.856700, 151.215000",
    ]
    assert seen.text.endswith(TEXT)


@pytest.mark.deep
def test_pictures_of_other_kinds(files: Path) -> None:
    draw("RGBA", (0, 0, 0, 0)).save(files / "clear.webp", lossless=True)
    draw("RGB", "navy", "yellow").save(files / "dark.bmp")
    still = draw().convert("P")
    still.save(files / "moving.gif", save_all=True, append_images=[Image.new("P", still.size)])
    Image.new("L", (60, 40), 128).save(files / "grey.tif")
    names = ["clear.webp", "dark.bmp", "moving.gif", "grey.tif"]
    seen = [one.text for one in play("image", files, *(("read_image", {"path": name}) for name in names))]
    assert [text.splitlines()[0] for text in seen] == [
        "WEBP, 900 x 220 pixels, RGBA",
        "BMP, 900 x 220 pixels, RGB",
        "GIF, 900 x 220 pixels, P, the first of 2 frames",
        "TIFF, 60 x 40 pixels, L",
    ]
    assert all(text.endswith(TEXT) for text in seen[:3])
    assert seen[3].endswith("(no text found)")


def test_what_is_no_picture_is_one_line(files: Path, tmp_path: Path) -> None:
    (files / "cut.png").write_bytes((files / "plain.png").read_bytes()[:2000])
    (files / "notes.png").write_text("not a picture")
    Image.new("1", (20_000, 8_000)).save(files / "vast.png")
    code = {"code": f"import os; os.symlink({str(tmp_path)!r}, 'up'); os.symlink('/etc/passwd', 'link.png')"}
    (tmp_path / "outside.png").write_bytes((files / "plain.png").read_bytes())
    names = ["cut.png", "notes.png", "vast.png", "link.png", "up/outside.png", "../outside.png", "a\0b", "none.png"]
    calls = [("read_image", {"path": name}) for name in names]
    seen = play("image", files, ("python", code), *calls, servers=("python",))[1:]
    assert all(one.is_error and "\n" not in one.text for one in seen[1:])
    assert seen[0].is_error and seen[0].text.splitlines()[-1].startswith("cut.png cannot be read: ")
    assert seen[1].text.startswith("notes.png cannot be read: UnidentifiedImageError: ")
    assert "too many" in seen[2].text
    assert all(one.text.startswith("no file ") for one in seen[3:])


@pytest.mark.deep
def test_a_file_of_the_agent_is_not_taken_for_a_library(files: Path) -> None:
    (files / "PIL.py").write_text("raise SystemExit('mine')")
    (seen,) = play("image", files, ("read_image", {"path": "plain.png"}))
    assert seen.text.endswith(TEXT)


def test_a_server_that_starts_loads_no_heavy_library() -> None:
    heavy = {"av", "chess", "cv2", "numpy", "onnxruntime", "PIL", "pocketsphinx", "rapidocr"}
    code = f"import sys; from aworld.tools import audio, chess, image, video; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
