"""What is on disk and how it is read; nothing about who wrote it."""
