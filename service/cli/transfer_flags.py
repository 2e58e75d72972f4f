"""Flags of the commands that take features out of stores and into them."""

import argparse

from service.cli.flags import add_output_storage, add_storage


def add_stores(parser: argparse.ArgumentParser) -> None:
    """Which stores a command reads, and where it writes."""
    parser.add_argument("store", metavar="STORE|OUTPUT", help="a store, or a folder of stores")
    parser.add_argument("--output", metavar="URI", required=True, help="where the result goes")
    parser.add_argument("--encoder", metavar="NAME", help="where several encoders wrote there")
    parser.add_argument(
        "--streams", nargs="+", metavar="KEY", help="keys or patterns; default: all"
    )
    add_storage(parser)
    add_output_storage(parser)


def add_export(parser: argparse.ArgumentParser) -> None:
    """In which form stores are written."""
    add_stores(parser)
    parser.add_argument(
        "--format",
        choices=("pt", "npy", "hdf5", "parquet", "webdataset"),
        default="pt",
        help="of the files",
    )
    parser.add_argument(
        "--dtype", choices=("float32", "float16"), default="float32", help="of the features"
    )
    parser.add_argument(
        "--invalid", choices=("nan", "zero"), default="nan", help="what stands for invalid clips"
    )


def add_import(parser: argparse.ArgumentParser) -> None:
    """Which feature files become stores."""
    parser.add_argument("source", metavar="FOLDER|FILE.hdf5", help="files of official features")
    parser.add_argument("--output", metavar="URI", required=True, help="where the stores go")
    parser.add_argument("--name", required=True, help="of the encoder, such as omnivore_video")
    parser.add_argument(
        "--dataset", metavar="URI", help="tells how long takes are, and which cameras are worn"
    )
    parser.add_argument(
        "--dataset-licence", metavar="'NAME URL'", help="of the videos (default: of --dataset)"
    )
    parser.add_argument(
        "--encoder-licence",
        metavar="'NAME URL'",
        help="of the encoder's weights, where it is known",
    )
    parser.add_argument(
        "--per-frame",
        action="store_true",
        help="a vector for each frame, as maws_clip_2b has (default: as config.yaml beside the"
        " files says, else 32 frames every 16)",
    )
    add_storage(parser)
    add_output_storage(parser)


def add_segments(parser: argparse.ArgumentParser) -> None:
    """How clips are pooled over segments."""
    add_stores(parser)
    parser.add_argument(
        "--annotations", metavar="FILE", required=True,
        help="keystep JSON, or CSV take,start,end,name,label",
    )  # fmt: skip
    parser.add_argument(
        "--pool", choices=("mean", "max", "nearest", "all"), default="mean",
        help="of a segment's clips; all: as they are, with --format npy (default: mean)",
    )  # fmt: skip
    parser.add_argument(
        "--nearest", type=int, default=1, metavar="N", help="clips of --pool nearest; default: 1"
    )
    parser.add_argument(
        "--format", choices=("zarr", "npy"), default="zarr", help="one store, or a file per segment"
    )
