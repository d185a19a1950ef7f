"""Where pictures come from: files, folders, packs, webcam archives and their sky masks, servers."""
