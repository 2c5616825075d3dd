"""Where events leave the log: the board, the watched files' answers, dead letters and the audit."""
