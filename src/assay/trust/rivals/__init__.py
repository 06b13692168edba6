"""Attacks that an evaluation has to beat: simple ones, labels, students, and all together (C4 to C7, C14 to C16)."""
