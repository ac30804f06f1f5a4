"""What a replay makes beside events: annotated videos and pictures, a chart over time, a table of all faces.

files.py        which files, checked before work starts; a failure to write in one sentence
outputs.py      all that was asked for, each of which fails alone
annotated.py    pictures with their faces drawn in, or blurred: a video (video.py) or a picture
veil.py         where to blur, also in frames that a face was missed in
strip.py        the last seconds, below each picture of a video
table.py        a row for each face, CSV or Parquet
tracks.py       which faces were seen, from when to when and how
chart.py        emotions over time, counted; drawn by chart_html.py and chart_png.py
"""
