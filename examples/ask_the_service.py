"""Ask a running service: features of some seconds, moments that look alike, a job for all takes.

make serve-demo        # in another shell; or `takestream serve …`
python examples/ask_the_service.py http://127.0.0.1:8000 --extract
"""

import argparse

import takestream


def main() -> None:
    """Print what the service says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", nargs="?", help="of the service; default: TAKESTREAM_URL")
    parser.add_argument("--extract", action="store_true", help="have all takes extracted first")
    given = parser.parse_args()

    with takestream.Client(given.url) as client:  # the key: TAKESTREAM_API_KEY
        if given.extract:
            job = client.submit()
            for state in job.events():
                done = (state.progress or {}).get("clips_done", 0)
                print(f"job {state.job_id}: {state.status}, {done:.0f} clips")
            job.wait()
        for take in client.takes():
            print(f"take {take.take_name} ({take.take_uid})")
        # What no store has is computed now.
        ds = client.features(take.take_name, start=0, end=2)
        print(f"features {dict(ds.sizes)} of {ds.encoding['encoder_id']}")
        stream = str(ds.stream.values[0])
        for moment in client.search(take.take_uid, moment=(stream, 1.0), top=2).best:
            print(f"like second 1 of {stream}: {moment.stream} at {moment.start_time:.2f} s")


if __name__ == "__main__":
    main()
