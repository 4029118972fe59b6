"""What this host gives: files, a store, memory, private folders, progress on its terminal."""
