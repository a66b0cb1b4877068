"""What a release becomes elsewhere: each file gives `write(released, folder)` and `answers(folder, texts)` in that runtime."""
