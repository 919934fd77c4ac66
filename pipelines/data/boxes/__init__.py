"""Data sets with boxes: reading, checking, converting, recording and batching them; proposals of regions."""
