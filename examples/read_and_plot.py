"""Read one store and plot how like the glasses the other cameras see each moment.

python examples/read_and_plot.py demo/features --take alpha_balance01_1 --picture cosines.png
"""

import argparse

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import takestream


def cosines(ds: xr.Dataset, to: str) -> xr.DataArray:
    """Cosine of every stream to the stream `to`; dims clip × stream, NaN if invalid."""
    f = ds.features.astype(np.float32).where(ds.valid)
    f = f / np.sqrt((f**2).sum("feature", skipna=False))
    return (f * f.sel(stream=to)).sum("feature", skipna=False)


def main() -> None:
    """Print what the store holds, and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", help="a store, or the folder that a job wrote into")
    parser.add_argument("--take", help="uid or name, where there are several")
    parser.add_argument("--picture", default="cosines.png", help="file to draw into")
    given = parser.parse_args()

    ds = takestream.open(given.output, take=given.take)
    streams = ds.stream.values.tolist()
    valid = ds.valid.sum("clip").values
    print(f"take {ds.attrs['take']['take_name']}, {ds.sizes['clip']} clips")
    for name, count in zip(streams, valid, strict=True):
        print(f"  {name}: {count} valid clips")
    for name, sentences in ds.attrs["problems"].items():
        print(f"  {name}: {' '.join(sentences)}")

    ego = next((name for name in streams if name.startswith("aria")), streams[0])
    curves = cosines(ds, ego).load()
    figure, axes = plt.subplots(figsize=(9, 4), layout="constrained")
    for name in streams:
        if name != ego:
            axes.plot(ds.start_time, curves.sel(stream=name), label=name)
    axes.set(xlabel="seconds on the take's clock", ylabel=f"cosine to {ego}")
    axes.legend()
    figure.savefig(given.picture)
    print(f"picture {given.picture}")


if __name__ == "__main__":
    main()
