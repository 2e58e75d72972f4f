"""`takestream calibrate`: a few units of the real data, measured, for `plan`."""

from argparse import Namespace

from configs.load import load_job
from service.cli.flags import flags_of, overrides
from service.jobs.calibrations import calibrate_here
from service.jobs.choose import choose
from service.report.console import print_json
from service.report.estimate import size_words
from workers.run.calibration import sizes_words


def calibrate(found: Namespace) -> int:
    """Measure some units of a job, and keep the result in its output."""
    chosen = choose(load_job(found.job, overrides(found), flags_of(found)))
    one, uri = calibrate_here(chosen, found.units)
    if found.json:
        print_json({**one.facts(), "uri": uri})
        return 0
    print(
        f"{', '.join(one.encoder_ids)} at resolution {one.resolution}: {one.units} units of"
        f" {one.takes} takes, {one.clips} clips of {one.streams} streams"
    )
    print(f"{sizes_words(one.sizes)}; {one.frames / one.seconds:,.0f} frames/s decoded each")
    print(
        f"{size_words(one.bytes_read)} read in {one.requests} requests,"
        f" {size_words(one.bytes_written)} written; up to {one.memory_mib} MiB of memory"
        + (f", {one.gpu_mib} MiB of the GPU's" if one.gpu_mib else "")
    )
    stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in one.stages.items())
    print(f"seconds of all threads, which overlap: {stages}; of work {one.seconds:.1f}")
    print(f"kept as {uri}: `takestream plan` with the same flags uses it")
    return 0
