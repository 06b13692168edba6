"""Whether what a run has kept is whole: verification, and repair before it resumes."""
