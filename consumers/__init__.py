"""Events leave the log: board, results, dead letters, audit, deployer."""
