"""The captioner: pixels in, words out. Knows nothing of storage, jobs or schedules."""
