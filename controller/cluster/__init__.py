"""Jobs on a cluster as the commands for people reach them: with the user's own rights."""
