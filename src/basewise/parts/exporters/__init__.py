"""What a release becomes elsewhere: each file gives `write(exported, folder)` and `answers(folder, texts)` in that runtime."""
