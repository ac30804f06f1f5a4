"""EmotionNet: the network, its preprocessing, its weights and the classifier that runs it.

Importing this package never imports torch; `emotionnet.network` does.
"""
