"""How the system is watched and measured: benchmarks; later rules and dashboards."""
