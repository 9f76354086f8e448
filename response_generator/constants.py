"""The seven emotions, in the order of the published classifier's ids. DailyDialog calls the first "no emotion"."""

EMOTIONS = ("neutral", "anger", "disgust", "fear", "happiness", "sadness", "surprise")
