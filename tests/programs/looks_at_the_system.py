"""Prints as JSON what there is of what any program needs of the system, its arguments included: files to be read."""

import datetime
import json
import os
import ssl
import sys
import zoneinfo


def read(path):
    with open(path, "rb") as file:
        return len(file.read())


def look(path):
    if os.path.isfile(path):
        return read(path)
    files = [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names]
    return len(files), sum(map(read, filter(os.path.isfile, files)))


trusting = ssl.create_default_context()
trusting.load_default_certs()
paris = datetime.datetime(2026, 1, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Paris"))
seen = {
    "hours in Paris": paris.utcoffset().total_seconds() / 3600,
    "zones": len(zoneinfo.available_timezones()),
    "certificates": len(trusting.get_ca_certs()),
}
print(json.dumps({**seen, **{path: look(path) for path in sys.argv[1:]}}))
