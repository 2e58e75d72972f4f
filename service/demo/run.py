"""`takestream demo`: the main job, end to end, on the example data set over an embedded S3."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import s3fs
from rich.console import Console

from configs.load import load_job
from service.demo.example import make_example
from service.demo.s3server import ObjectStore
from service.jobs.choose import choose
from service.jobs.driver import run_here
from service.report.console import print_json, result_console
from service.report.drawing import draw_store
from service.report.inspect import describe_store, print_store
from service.report.progress import progress_display
from service.report.summary import print_summary, report_facts
from takestream.storage import join
from takestream.stores import find_stores
from workers.store.verify import verify


def run_demo(folder: Path, *, as_json: bool = False) -> int:
    """Everything in `folder`: example, S3 server, job, verification, pictures. The exit code.

    The server's objects stay there as its own volumes; a copy of the stores is put into
    `folder/features`, so that they can be opened when the server is gone.
    """
    console = result_console(to_stderr=as_json)
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    console.print("[bold]1[/bold] the example data set: 2 takes, 6 and 7 streams, real footage")
    example = make_example(folder / "example")
    console.print("[bold]2[/bold] an S3 server on loopback; the data set goes up to it")
    with ObjectStore(folder / "s3") as server, in_environment(server):
        dataset = join(server.make_bucket("egoexo"), "example")
        output = join(server.make_bucket("features"), "demo")
        remote = s3fs.S3FileSystem(**server.storage_options())
        remote.put(f"{example}/", f"{dataset}/", recursive=True)
        # The demo shows the whole run each time; resuming is the second `extract`'s business.
        if remote.exists(output):
            remote.rm(output, recursive=True)
        job = load_job(None, {"dataset": dataset, "output": output})
        chosen = choose(job)
        recipe = chosen.recipe
        console.print(
            f"[bold]3[/bold] takestream extract --dataset {dataset} --output {output}\n"
            f"  encoder {recipe.target.encoder_id}, {recipe.target.encoder.dim} numbers per clip"
        )
        with progress_display(quiet=as_json) as show:
            finished = run_here(chosen, show)
        report = finished.report
        print_summary(recipe, report, console, finished.where, next_steps=False)
        stores = find_stores(output, recipe.output_s3)
        checked = [verify(uri, recipe.output_s3) for uri in stores]
        console.print(f"\n[bold]4[/bold] takestream verify {output}")
        for one in checked:
            console.print(f"  {'ok' if one.ok else one.faults} {one.uri}", soft_wrap=True)
        features = folder / "features"
        remote.get(f"{output}/", f"{features}/", recursive=True)
        pictures = []
        for uri in find_stores(str(features)):
            pictures.append(folder / f"{Path(uri).stem}.png")
            draw_store(uri, pictures[-1])
        console.print("\n[bold]5[/bold] what the stores hold, copied out of S3")
        for uri in find_stores(str(features)):
            print_store(describe_store(uri), console)
    _say_where(console, features, pictures)
    ok = report.ok and all(one.ok for one in checked) and len(checked) == len(report.stores)
    if as_json:
        facts = {**report_facts(recipe, report), "pictures": [str(p) for p in pictures]}
        print_json({**facts, "verified": ok})
    return 0 if ok else 1


@contextmanager
def in_environment(server: ObjectStore) -> Iterator[None]:
    """The server's address and keys as the AWS variables, for us and for Ray's workers."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(server.environment(before))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _say_where(console: Console, features: Path, pictures: list[Path]) -> None:
    def near(path: Path) -> str:
        return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)

    console.print(f"\nstores   {near(features)}", soft_wrap=True, highlight=False)
    for picture in pictures:
        console.print(f"picture  {near(picture)}", soft_wrap=True, highlight=False)
    first = next(iter(sorted(features.rglob("*.zarr"))), None)
    if first is not None:
        code = f"import xarray; print(xarray.open_zarr('{near(first)}'))"
        console.print(f'open     .venv/bin/python -c "{code}"', soft_wrap=True, highlight=False)
