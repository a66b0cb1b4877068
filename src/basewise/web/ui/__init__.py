"""The web app: pages over the same run folders, served on loopback to the one person who holds its token."""
