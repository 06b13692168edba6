"""Between a context and the diagnostics: what each is asked about, with which attacks, and what that costs."""
