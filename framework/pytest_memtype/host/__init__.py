"""The host: files, a store, memory, private folders, progress on its terminal."""
