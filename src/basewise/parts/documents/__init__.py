"""What a release says about itself: each file gives `FILE` and `text(release) -> str | None`, from the one record."""
