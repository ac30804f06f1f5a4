"""Says when a stream's faces have been sad for a minute: python alert.py REDIS_URL [URL that gets a POST each time]."""

import json
import sys
from collections import defaultdict, deque
from datetime import datetime, timedelta
from http.client import HTTPException
from urllib.request import Request, urlopen

from emotiond.client import subscribe

EMOTION, SHARE, SPAN = "sad", 0.6, timedelta(minutes=1)
GAP = timedelta(seconds=5)      # without a face, after which the minute begins anew: a frame without faces is no event


def main(redis: str, hook: str = "") -> None:
    """Keeps the last minute of each stream: time, faces with the emotion, faces that did not abstain."""
    minutes: dict[str, deque[tuple[datetime, int, int]]] = defaultdict(deque)
    began, alerted = dict[str, datetime](), set[str]()
    for event in subscribe(redis):
        seen = [face.smoothed.emotion for face in event.faces if not face.abstained]
        minute = minutes[event.stream]
        if not minute or event.time - minute[-1][0] > GAP:
            minute.clear()
            began[event.stream] = event.time
            alerted.discard(event.stream)
        minute.append((event.time, seen.count(EMOTION), len(seen)))
        while minute[0][0] < event.time - SPAN:
            minute.popleft()
        share = sum(moment[1] for moment in minute) / max(sum(moment[2] for moment in minute), 1)
        if share < SHARE:
            alerted.discard(event.stream)
        elif event.time - began[event.stream] >= SPAN and event.stream not in alerted:
            alerted.add(event.stream)
            alert = json.dumps({"stream": event.stream, "time": event.time.isoformat(), "share": round(share, 2)})
            print(alert, flush=True)
            if hook:
                post(hook, alert)


def post(hook: str, alert: str) -> None:
    """Tries once: a hook that fails misses its alert, and gets the next one."""
    try:
        urlopen(Request(hook, alert.encode(), {"Content-Type": "application/json"}), timeout=5).close()
    except (OSError, HTTPException) as error:
        print(f"{hook} did not take the alert: {error}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
