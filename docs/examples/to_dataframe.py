"""Faces as a pandas data frame: python to_dataframe.py REDIS_URL [STREAM...] prints each minute's share of emotions."""

import sys

import pandas as pd

from emotiond.client import subscribe


def read_faces(redis: str, *streams: str) -> pd.DataFrame:
    """Reads all that Redis keeps, one row a face, by time; where there are no faces the frame is empty."""
    events = subscribe(redis, streams or None, start="first", follow=False)
    faces = pd.DataFrame([
        {"time": event.time, "stream": event.stream, "track": face.track_id, "emotion": face.emotion,
         "abstained": face.abstained, **face.probabilities}
        for event in events for face in event.faces])
    return faces if faces.empty else faces.set_index("time").sort_index()


if __name__ == "__main__":
    faces = read_faces(*sys.argv[1:])
    if faces.empty:
        sys.exit("Redis keeps no faces of these streams; is a daemon writing there?")
    sure = faces[~faces["abstained"]]
    shares = sure.groupby(["stream", pd.Grouper(freq="1min")])["emotion"].value_counts(normalize=True)
    print(shares.unstack(fill_value=0).round(2).to_string())
