#!/usr/bin/env python3
"""An outbox for orders: a folder that outlives the program, the network and the relay.

    outbox.py put  FOLDER < order.json     keeps an order; done when it is on disk
    outbox.py send FOLDER                  sends what is kept, oldest first

RELAY is the relay's base URL, RELAY_KEY the key. `send` exits 0 when nothing is left,
1 when somebody must mend the key or the address, 75 when the rest is to be sent later.
"""
import json
import os
import sys
import time
import urllib.error
import urllib.request

# The relay or the way to it is busy or away: the same order again, later.
LATER = {408, 429, 500, 502, 503, 504}
# Nothing is wrong with the order, but with who sends it or where to: keep it, tell a person.
PERSON = {401, 403, 404, 405, 415}


def put(folder, order):
    """Keeps an order. Once this returns, it survives a power cut."""
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, f"{time.time_ns():020}.json")
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump(order, file, ensure_ascii=False)
        file.flush()
        os.fsync(file.fileno())
    os.rename(path + ".new", path)
    directory = os.open(folder, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)


def post(relay, key, body):
    """Status, seconds to wait, and body of the answer; status 0 when there was none."""
    request = urllib.request.Request(relay.rstrip("/") + "/v1/beacon/conversion", data=body)
    request.add_header("Content-Type", "application/json")
    if key:
        request.add_header("Authorization", "Bearer " + key)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, None, answer.read()
    except urllib.error.HTTPError as answer:
        return answer.code, answer.headers.get("Retry-After"), answer.read()
    except OSError:
        return 0, None, b""


def send(folder, relay, key, tries=5):
    for name in sorted(os.listdir(folder) if os.path.isdir(folder) else []):
        if not name.endswith(".json"):
            continue
        path = os.path.join(folder, name)
        with open(path, "rb") as file:
            body = file.read()
        for attempt in range(tries):
            status, wait, answer = post(relay, key, body)
            if status != 0 and status not in LATER:
                break
            if attempt + 1 < tries:
                time.sleep(int(wait) if wait and wait.isdigit() else 2**attempt)
        if status == 202:
            os.remove(path)
        elif status == 0 or status in LATER:
            return 75
        elif status in PERSON:
            print(f"the relay answers {status}; nothing was lost", file=sys.stderr)
            return 1
        else:
            # 400, 413, 422: this order will never pass as it is. Set aside with the answer, for a
            # person; the next one goes on.
            refused = os.path.join(folder, "refused")
            os.makedirs(refused, exist_ok=True)
            with open(os.path.join(refused, name + ".answer"), "wb") as file:
                file.write(answer)
            os.rename(path, os.path.join(refused, name))
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("put", "send"):
        sys.exit(__doc__)
    if sys.argv[1] == "put":
        put(sys.argv[2], json.load(sys.stdin))
    else:
        base = os.environ.get("RELAY", "http://127.0.0.1:8080")
        sys.exit(send(sys.argv[2], base, os.environ.get("RELAY_KEY")))
