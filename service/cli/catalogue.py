"""`takestream catalogue`: an output's table of takes."""

from argparse import Namespace

from service.report.console import print_json
from takestream.storage import S3Options
from workers.store.catalogue import refresh_output


def catalogue(found: Namespace) -> int:
    """Refresh the catalogues of an output, or make them anew."""
    s3 = S3Options(found.s3_profile, found.endpoint_url)
    done = refresh_output(found.output, s3, found.encoder, rebuild=found.rebuild)
    if found.json:
        print_json(
            [
                {
                    "catalogue": one.uri,
                    "encoder_id": one.encoder_id,
                    "takes": len(one.rows),
                    "stores_read": one.read,
                    "written": one.written,
                }
                for one in done
            ]
        )
        return 0
    for one in done:
        what = "written" if one.written else "up to date"
        print(f"{one.uri}: {what}, {len(one.rows)} takes, {one.read} stores read")
    if not done:
        print(f"no encoder's stores at {found.output}")
    return 0
