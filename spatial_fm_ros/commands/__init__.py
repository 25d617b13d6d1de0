"""The commands of `spatial-fm`; every one imports what it needs when it runs, so that help stays fast."""
