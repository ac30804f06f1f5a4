"""placeholder"""
LABELS = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
