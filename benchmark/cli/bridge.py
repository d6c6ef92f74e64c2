"""`bridge`: compare the bits of revisions, and note between which they are equal."""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from benchmark.cli import requests
from benchmark.cli.output import near
from benchmark.errors import CHECK_FAILED, MissingInput, UsageError
from benchmark.judge.bridges import BRIDGES, Bridge, Bridges, read_bridges, write_bridges
from benchmark.machine.provenance import revision, source_hash
from benchmark.machine.shipped import RESULTS


def main(arguments: requests.Bridge) -> int:
    """Compare, print and write. Return 0, or the code of a failed check if some bits differ.

    Raises:
        UsageError: the source is not committed, so no bridge can lead to it.
        MissingInput: a revision is not in this history.
    """
    known = read_bridges()
    here = arguments.newer is None
    if here and not arguments.older and known.last is not None and known.last.after == source_hash():
        print(f"nothing to compare: a bridge leads to this source, {source_hash()}", file=sys.stderr)
        return 0

    from benchmark.launch.bridging import commit_of, cross

    try:
        older = [commit_of(name) for name in arguments.older or _start(known)]
        newer = None if arguments.newer is None else commit_of(arguments.newer)
    except MissingInput as error:
        if not arguments.check:
            raise
        print(f"not compared: {error.message}", file=sys.stderr)
        return 0
    if here and not arguments.check and revision()["dirty"]:
        raise UsageError("this program's source is not committed", "commit it first, or compare alone: --check")
    print(f"{1 + len(older)} revisions train the mini study in short, side by side: a minute or two", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="benchmark-bridge-") as scratch:
        crossings = cross(older, newer, arguments.data_dir, Path(scratch))
    if arguments.json:
        plain = [asdict(crossing) for crossing in crossings]
        print(json.dumps(plain, indent=1, ensure_ascii=False, default=Bridge.model_dump))
    else:
        print("\n".join(crossing.text() for crossing in crossings))
    bridges = (bridge for crossing in crossings for bridge in crossing.bridges)
    found = [bridge for bridge in bridges if bridge.methods and bridge.before != bridge.after]
    if found and not arguments.check:
        write_bridges((*known.entries, *found))
        print(f"written to {near(BRIDGES)}, for you to commit", file=sys.stderr)
    return CHECK_FAILED if any(crossing.differing for crossing in crossings) else 0


def _start(known: Bridges) -> list[str]:
    """Return the last bridged commit, or before there is one the commits under which the records were made."""
    if known.last is not None:
        return [known.last.commits[1]]
    from benchmark.launch.bridging import commits_of_records

    commits, without = commits_of_records(RESULTS)
    if without:
        print(f"{without} records are of a source that was not committed: no bridge starts there", file=sys.stderr)
    if not commits:
        raise UsageError("no record names a committed source to start from", "name a revision: --from REV")
    return commits
