"""Training of EmotionNet: data, training, evaluation, export."""
