"""From a decoded picture to a network's input."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from configs.base import Settings

Pixels = Annotated[int, Field(ge=1)]
Triple = tuple[float, float, float]


class PreprocessSpec(Settings):
    """From a decoded picture to the network's input: resize, crop, then (x * scale - mean) / std.

    resize: target in pixels; with `shortest_edge` the short side becomes it and the other keeps
        the aspect ratio, with `exact` it is (height, width).
    crop: (height, width) of the centre crop, or none.
    method: how pictures are resized and cropped.
        `pil`: antialiased and rounded to uint8, the crop's offsets rounded down, as PIL and the
            hub's processors do.
        `float`: not antialiased, nothing rounded or clamped, the crop's offsets rounded to the
            nearest, a half to even, as torchvision before 0.17 and pytorchvideo treat float
            tensors.
    """

    resize: Pixels | tuple[Pixels, Pixels]
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    crop: tuple[Pixels, Pixels] | None = None
    scale: float = 1 / 255
    mean: Triple = (0.485, 0.456, 0.406)
    std: Triple = (0.229, 0.224, 0.225)
    method: Literal["pil", "float"] = "pil"

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the network's input in pixels."""
        if self.crop is not None:
            return self.crop
        if isinstance(self.resize, tuple):
            return self.resize
        raise ValueError("preprocess: `resize` to a shortest edge needs a `crop`")

    @property
    def rounded(self) -> bool:
        """Whether a resized picture is uint8; float32 in the same 0 to 255 otherwise."""
        return self.method == "pil"

    @property
    def sizing(self) -> "PreprocessSpec":
        """How pictures are resized and cropped, without how they are normalised."""
        return PreprocessSpec(
            resize=self.resize,
            interpolation=self.interpolation,
            crop=self.crop,
            method=self.method,
        )

    @model_validator(mode="after")
    def _has_one_size(self) -> Self:
        if isinstance(self.resize, int) and self.crop is None:
            raise ValueError("resizing the shortest edge gives no fixed size: add a crop")
        return self

    @model_serializer(mode="wrap")
    def _only_what_was_chosen(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Stores and ids that were made before there was a choice do not name the method.
        data: dict[str, Any] = handler(self)
        if self.method == "pil":
            data.pop("method", None)
        return data
